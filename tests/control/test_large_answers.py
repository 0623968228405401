"""What a client with gRPC's own limit of 4 MiB a message is sent of very many endpoints."""

import grpc.aio

from plane import QueueSource, RawClient, assignments, running, updated
from trimtab.model import Synced
from trimtab.xds import type_urls

SERVICES, ENDPOINTS = 1_000, 200
GRPC_LIMIT_BYTES = 4 << 20


async def test_two_hundred_thousand_endpoints_of_a_thousand_services_arrive_within_grpc_s_limit():
    ports = range(1, ENDPOINTS + 1)
    names = [f"s{n}.shop:8080" for n in range(SERVICES)]
    source = QueueSource(*(updated(f"s{n}", *ports) for n in range(SERVICES)), Synced())
    async with running(source) as plane, RawClient(plane.xds_address) as client:
        stream = client.sotw(agent="gRPC C-core")
        await stream.hello(type_url=type_urls.EDS, resource_names=names)
        received, largest, total = {}, 0, 0
        while len(received) < SERVICES:
            answer = await stream.read(within=90.0)
            assert answer is not grpc.aio.EOF, await stream.status()
            received |= assignments(answer)
            largest, total = max(largest, answer.ByteSize()), total + answer.ByteSize()
            await stream.ack(answer, resource_names=names)
        assert received == {name: [*ports] for name in names}
        assert total > GRPC_LIMIT_BYTES > largest
