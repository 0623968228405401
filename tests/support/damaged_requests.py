"""Requests of every kind, good and damaged, for a running control plane; and what must hold meanwhile."""

import asyncio
import contextlib
from collections import Counter

import grpc
import grpc.aio

from damaged_messages import ORDERS, fill, torn
from plane import RawClient, eventually
from trimtab.control import metrics
from trimtab.control.methods import CLIENT_STATUS, LOAD_REPORTS, METHODS
from trimtab.xds import type_urls, wire_pb2

DISCOVERY = {"ads", "cds", "eds", "lds", "rds"}
MOST_OF_ONE_STREAM = 20
AT_ONCE = 32
ENDS_WITHIN_S = 60
ALLOWED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,  # the client broke the protocol
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,  # gRPC's own limit on a message's size
}


def _kind(method):
    if method == LOAD_REPORTS:
        return wire_pb2.LoadStatsRequest
    if method.startswith(CLIENT_STATUS):
        return wire_pb2.ClientStatusRequest
    return wire_pb2.DeltaDiscoveryRequest if METHODS[method].delta else wire_pb2.DiscoveryRequest


class Fuzzing:
    """Streams of one client on a running control plane.

    Args:
        plane: it, with the Service ``orders.shop`` and limits on requests that slow nobody down.
        random: what is sent.

    Attributes:
        sent: messages so far.
        ends: streams so far, by how they ended.
    """

    def __init__(self, plane, random):
        self.sent = 0
        self.ends = Counter()
        self._plane = plane
        self._random = random

    async def run(self, inputs):
        """Send so many messages; at the end nothing is left of the streams, and nothing has broken."""
        async with RawClient(self._plane.xds_address) as client:
            until = self.sent + inputs
            while self.sent < until:
                await asyncio.gather(*(self._stream(client) for _ in range(AT_ONCE)))
                await self._still_serves(client)
        server = self._plane.server
        await eventually(lambda: not server._all_streams())
        assert not server._owners
        assert not server._reporters
        assert not self._plane.store._listeners

    async def _stream(self, client):
        random = self._random
        method = random.choice(list(METHODS))
        often = random.choice((0.0, 0.0, 0.02, 0.5))  # what is torn ends most streams, too
        own_type = METHODS[method].type_url
        call = client.opened(method)
        reading = asyncio.create_task(self._drain(call))
        try:
            with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
                for _ in range(random.randint(1, MOST_OF_ONE_STREAM)):
                    request = _kind(method)()
                    fill(request, random)
                    if METHODS[method].service in DISCOVERY and random.random() < 0.97:
                        # Another type ends most streams: what comes later would not be read.
                        request.type_url = own_type or random.choice(type_urls.ORDER)
                    raw = request.SerializeToString()
                    await call.write(torn(raw, random) if random.random() < often else raw)
                    self.sent += 1
                if random.random() < 0.2:
                    call.cancel()
                else:
                    await call.done_writing()
            await asyncio.wait([reading], timeout=ENDS_WITHIN_S)
            if not reading.done():
                there = [str(s) for s in self._plane.server._all_streams()]
                raise AssertionError(f"{method}: not ended; the server still has {there}")
            code, text = await call.code(), await call.details()
            # What grpc.aio says to a client whose stream ends while it writes.
            cut = (code, text) == (grpc.StatusCode.INTERNAL, "Internal error from Core")
            assert cut or code in ALLOWED, f"{method}: {code} {text}"
            self.ends["cut off while writing" if cut else code.name] += 1
        finally:
            reading.cancel()
        assert not self._plane.counters.get(metrics.EXCEPTIONS), "a stream met a fault; see the log"

    async def _drain(self, call):
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError, asyncio.CancelledError):
            while await call.read() is not grpc.aio.EOF:
                pass

    async def _still_serves(self, client):
        stream = client.sotw()
        await stream.hello(type_url=type_urls.EDS, resource_names=[ORDERS])
        assert (await stream.read(within=20)).resources
        stream.call.cancel()
