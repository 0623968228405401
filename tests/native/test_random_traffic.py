"""Live traffic to random fleets: every endpoint that should get requests gets some."""

import asyncio
import os
from dataclasses import replace
from random import Random

import pytest

from fleets import fleet
from harness.backends import Backends
from harness.client import Road
from harness.control_plane import printed_bootstrap
from harness.envoy import Envoy, aggregated
from harness.python_clients import native_client, trimtab_client
from plane import QueueSource, eventually, running
from trimtab.control import metrics
from trimtab.model import Removed, Snapshot, Synced, Updated

pytestmark = pytest.mark.processes

FLEETS = int(os.environ.get("TRAFFIC_FLEETS", "25"))
SERVERS = 8
CALLS = 30  # at once
ROUNDS = 60
HEAVIEST = 4  # a weight of 2**32-1 beside 1 leaves nothing to be seen


def live(seed, ports):
    """A fleet whose endpoints are servers that answer; none twice, few enough to be told apart."""
    shape = fleet(seed)
    random = Random(seed)
    endpoints = [
        replace(
            endpoint,
            address="127.0.0.1",
            port=port,
            weight=min(endpoint.weight, HEAVIEST),
            additional_addresses=(),
        )
        for endpoint, port in zip(shape.endpoints, random.sample(ports, len(ports)), strict=False)
    ]
    policy = shape.policy
    if policy is not None:
        # A limit would be a reason to fail, a subset one to leave endpoints out.
        kept = tuple(p for p in policy.params if p[0] not in {"max_requests", "subset_size"})
        policy = replace(policy, params=kept)
    service = replace(shape.service, app_protocol="grpc")
    return Snapshot(shape.cluster, tuple(endpoints), policy, service)


def served(client, road, wanted):
    """The ports that answered, until all that are wanted did, or for long enough."""
    seen = set()
    for _ in range(ROUNDS):
        # Each with a key of its own, for those that hash.
        roads = [
            replace(road, metadata=road.metadata | {"x-user": f"{n}", "a.b_c-1": f"{n}"})
            for n in range(len(seen) * 1000, len(seen) * 1000 + CALLS)
        ]
        for number in [client.begin_call(r) for r in roads]:
            answer = client.end_call(number)
            assert answer.server, answer
            seen.add(int(answer.server))
        if len(seen) >= len(wanted):
            break
    return seen


@pytest.mark.timeout(60 + FLEETS * 5)
async def test_every_endpoint_that_should_gets_requests(tmp_path, started):
    backends = started(await asyncio.to_thread(Backends))
    pods = await asyncio.to_thread(backends.open, *map(str, range(SERVERS)))
    by_name = {int(pod.name): pod.port for pod in pods}
    source = QueueSource(Synced())
    async with running(source) as plane:
        address = str(plane.xds_address)
        envoy = started(Envoy("edge", aggregated("edge", address, "delta"), tmp_path))
        bootstrap = await asyncio.to_thread(
            printed_bootstrap, "grpc", address, (("node_id", "native"),)
        )
        native = started(native_client(bootstrap))
        ours = started(trimtab_client(bootstrap))
        await asyncio.to_thread(envoy.wait_ready)
        for seed in range(FLEETS):
            snapshot = live(seed, list(by_name.values()))
            wanted = {e.port for e in snapshot.usable()}
            if not wanted:
                continue
            source.put(Updated(snapshot))
            await eventually(lambda s=snapshot: s.cluster in plane.store.catalog)
            await asyncio.to_thread(envoy.wait_cluster, snapshot.cluster)
            roads = {
                "envoy": (native, envoy.road(snapshot.cluster)),
                "native": (native, Road(f"xds:///{snapshot.cluster}")),
                "trimtab": (ours, Road(f"xds:///{snapshot.cluster}")),
            }
            for name, (client, road) in roads.items():
                seen = await asyncio.to_thread(served, client, road, wanted)
                got = {by_name[server] for server in seen}
                assert got == wanted, f"{name}, fleet {seed}: {snapshot} {snapshot.policy}"
            source.put(Removed(snapshot.cluster))
        nacks = next(values for m, values in plane.counters if m.name == metrics.NACKS)
        assert not nacks
