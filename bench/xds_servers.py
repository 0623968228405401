"""The measured servers of ``push.py``, one per process, driven over stdin.

``ours`` is the production control plane with a source in place of a cluster; ``bare`` is the least that
grpc.aio can do: it writes the same bytes to every stream, and reads and forgets what comes.

Commands: ``push`` (change the first cluster; answers when it began), ``churn N`` (one change of each of
N clusters), ``updates N`` (of the first, as fast as they are applied; ours only), ``cpu``, ``memory``,
``stop``.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio

from over_tls import server_side
from trimtab.control.collector import Collector
from trimtab.control.config import Address
from trimtab.control.serve import ControlPlane, ServeOptions
from trimtab.control.server import _OPTIONS
from trimtab.discovery import Contact
from trimtab.model import Endpoint, Locality, ServicePort, Snapshot, SourceEvent, Synced, Updated
from trimtab.xds import type_urls
from trimtab.xds import wire_pb2 as wire
from trimtab.xds.catalog import Catalog, Client, ClientKind

_ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
_TURN = 100
_PAGE = resource.getpagesize()


def endpoint(number: int) -> Endpoint:
    """The pod of that number."""
    address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
    return Endpoint(address, 50051, locality=Locality("r", "z1"))


class Fleet:
    """Clusters of equal size; a change swaps one endpoint for another, to and fro."""

    def __init__(self, clusters: list[str], size: int) -> None:
        self.clusters = clusters
        self._size = size
        self._turn = [0] * len(clusters)

    def snapshot(self, at: int) -> Snapshot:
        """Cluster ``at`` as it is now."""
        name = self.clusters[at]
        service, rest = name.split(".", 1)
        namespace, port = rest.rsplit(":", 1)
        first = self._size + self._turn[at] % 2
        rest_of = tuple(endpoint(n) for n in range(1, self._size))
        endpoints = tuple(sorted((*rest_of, endpoint(first)), key=lambda e: (e.address, e.port)))
        return Snapshot(name, endpoints, service=ServicePort(service, namespace, int(port), "grpc"))

    def change(self, at: int) -> Snapshot:
        """Change one endpoint of cluster ``at``."""
        self._turn[at] += 1
        return self.snapshot(at)


class _Source:
    """Yields what it is given."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[SourceEvent] = asyncio.Queue()

    def contact(self) -> Contact | None:
        return None

    async def events(self) -> AsyncIterator[SourceEvent]:
        while True:
            yield await self.queue.get()
            self.queue.task_done()


class Ours:
    """trimtab's control plane."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._source = _Source()

    async def start(self, port: int) -> int:
        options = ServeOptions(
            xds=Address("127.0.0.1", port), admin=Address("127.0.0.1", 0), security=server_side()
        )
        self._plane = ControlPlane(options)
        self._collector = Collector(self._plane.counters, asyncio.get_running_loop().time)
        self._collector.__enter__()  # as `trimtab serve` has it
        await self._plane.start()
        for at in range(len(self._fleet.clusters)):
            self._source.queue.put_nowait(Updated(self._fleet.snapshot(at)))
        self._source.queue.put_nowait(Synced())
        self._following = asyncio.create_task(
            self._plane.follow([("bench", lambda _report, _counters: self._source)])
        )
        await self._plane.store.synced.wait()
        return self._plane.xds_address.port

    def push(self, snapshot: Snapshot) -> None:
        self._source.queue.put_nowait(Updated(snapshot))

    async def idle(self) -> None:
        """Until everything that was pushed is applied."""
        await self._source.queue.join()

    async def stop(self) -> None:
        self._following.cancel()
        await asyncio.gather(self._following, return_exceptions=True)
        await self._plane.stop()
        self._collector.__exit__(None, None, None)


class Bare:
    """A grpc.aio loop."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._streams: set[grpc.aio.ServicerContext] = set()
        self._turn = 0
        self._writes: asyncio.Task | None = None

    def _response(self, snapshot: Snapshot) -> bytes:
        catalog = Catalog()
        catalog.apply(Updated(snapshot))
        catalog.apply(Synced())
        client = Client(kind=ClientKind.GRPC)
        found = catalog.get(type_urls.EDS, snapshot.cluster, client)
        self._turn += 1
        return wire.DiscoveryResponse(
            version_info=found.version,
            resources=[found.body],
            type_url=type_urls.EDS,
            nonce=format(self._turn, "x"),
        ).SerializeToString()

    async def start(self, port: int) -> int:
        first = self._response(self._fleet.snapshot(0))
        # Both turns of the change are made beforehand: a bare loop does nothing but write.
        self._ready = [self._response(self._fleet.change(0)) for _ in range(2)]

        async def handle(_requests, call) -> None:
            await call.read()
            await call.write(first)
            self._streams.add(call)
            while await call.read() is not grpc.aio.EOF:
                pass
            self._streams.discard(call)

        method = grpc.stream_stream_rpc_method_handler(handle)
        package, name = _ADS[1:].split("/")
        self._server = grpc.aio.server(options=_OPTIONS)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(package, {name: method}),)
        )
        port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        await self._server.start()
        return port

    def push(self, _snapshot: Snapshot) -> None:
        self._ready.reverse()
        message = self._ready[0]
        self._writes = asyncio.gather(*(call.write(message) for call in self._streams))

    async def stop(self) -> None:
        await self._server.stop(None)


def resident_bytes() -> int:
    """Resident memory of this process, after a garbage collection."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def cpu_seconds() -> float:
    """CPU time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def _main(kind: str, clusters: list[str], size: int, port: int) -> None:
    fleet = Fleet(clusters, size)
    server = {"ours": Ours, "bare": Bare}[kind](fleet)
    print(json.dumps({"port": await server.start(port)}), flush=True)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode().split():
        answer: dict[str, float] = {}
        match line:
            case ["push"]:
                snapshot = fleet.change(0)  # the source's own work, which `fold` measures
                answer = {"began": time.monotonic()}
                server.push(snapshot)
            case ["churn", count]:
                answer = {"began": time.monotonic()}
                for at in range(int(count)):
                    server.push(fleet.change(at))
            case ["updates", count]:
                for turn in range(int(count)):
                    server.push(fleet.change(0))
                    if turn % _TURN == 0:
                        await server.idle()
                await server.idle()
            case ["stop"]:
                break
        answer |= {"cpu": cpu_seconds(), "memory": resident_bytes() if line == ["memory"] else 0}
        print(json.dumps(answer), flush=True)
    await server.stop()


if __name__ == "__main__":
    _kind, _clusters, _size, *_port = sys.argv[1:]
    asyncio.run(_main(_kind, _clusters.split(","), int(_size), int(*_port or [0])))
