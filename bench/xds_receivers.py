"""Many xDS clients in one process, cheap enough to leave the machine to the server.

Each is a TCP connection of its own with hand-framed HTTP/2 and one ADS stream (state of the world or
delta) that names one cluster's endpoints, answers every response with an ACK, and notes when it came.
Clients made of grpc.aio would be what is measured. What is left out of HTTP/2 (flow control beyond one
huge window, header decoding) is left out for every server alike; TLS is in it if the benchmark says so
(``over_tls``).

Commands on stdin, one line each; each is answered with one JSON line:

    connect N [silent]  open N more clients, and wait until each has its first response (silent:
                        until each is connected)
    round               wait until every client that reads has one more response; when each came
    take                what came since the last answer
    stick N             the first N clients read no more
    cycle N             N connections that are opened, wait for a response and are closed, 200 at once
    come back N         from now on, whoever loses its connection tries again as trimtab's client does
                        (its own back-off); answers once N have come back and have a response: when
                        each connection was opened
    stop                close all

With a number of endpoints as the last argument, each client also reports load of so many, on a stream
of load reports over the same connection, every 10 s, not all at once.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time
from random import Random

from google.protobuf.duration_pb2 import Duration

from over_tls import client_side
from trimtab.backoff import HEALTHY_S, Backoff
from trimtab.xds import type_urls
from trimtab.xds import wire_pb2 as wire
from xds_servers import endpoint

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_HEADERS, _ACK = 4, 1
_HUGE = 2**31 - 1
_SERVICE = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
_LOAD_REPORTS = "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats"
_ADS, _LRS = 1, 3  # streams of a connection
_REPORT_EVERY_S = 10.0


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return (
        struct.pack(">I", len(payload))[1:]
        + bytes((kind, flags))
        + struct.pack(">I", stream)
        + payload
    )


def _literal(name: str, value: str) -> bytes:
    """A header as HPACK literal without indexing (RFC 7541, 6.2.2); texts below 127 characters."""
    return b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()


def _headers(path: str, stream: int) -> bytes:
    headers = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "bench"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    )
    return _frame(_HEADERS, _END_HEADERS, stream, b"".join(_literal(*h) for h in headers))


def _opening(method: str) -> bytes:
    return (
        _PREFACE
        + _frame(_SETTINGS, 0, 0, struct.pack(">HI", 4, _HUGE) + struct.pack(">HI", 5, 2**20))
        + _frame(_WINDOW, 0, 0, struct.pack(">I", _HUGE - 65_535))
        + _headers(_SERVICE + method, _ADS)
    )


def _message(request, stream: int = _ADS) -> bytes:
    body = request.SerializeToString()
    return _frame(_DATA, 0, stream, b"\0" + struct.pack(">I", len(body)) + body)


def load_report(cluster: str, count: int) -> wire.LoadStatsRequest:
    """What a client says that called so many endpoints of a cluster since its last report."""
    locality = wire.UpstreamLocalityStats(locality=wire.Locality(region="r", zone="z1"))
    for number in range(1, count + 1):
        at = endpoint(number)
        where = wire.SocketAddress(address=at.address, port_value=at.port)
        locality.upstream_endpoint_stats.add(
            address=wire.Address(socket_address=where),
            total_successful_requests=100,
            total_issued_requests=100,
            total_requests_in_progress=1,
        )
    interval = Duration(seconds=int(_REPORT_EVERY_S))
    stats = wire.ClusterStats(
        cluster_name=cluster, load_report_interval=interval, upstream_locality_stats=[locality]
    )
    return wire.LoadStatsRequest(cluster_stats=[stats])


def _fields(body: bytes) -> dict[int, bytes]:
    """The length-delimited top-level fields of a message, the last of each number."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(body):
        key, at = _varint(body, at)
        length, at = _varint(body, at)
        if key & 7 == 2:
            found[key >> 3] = body[at : at + length]
            at += length
    return found


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = body[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


class Crowd:
    """All clients of this process."""

    def __init__(
        self,
        host: str,
        port: int,
        clusters: list[str],
        *,
        delta: bool,
        version: str,
        reported: int = 0,
    ) -> None:
        self.clients: list[_Client] = []
        self.lost = 0
        self.times: list[float] = []
        self.resources = 0
        self.wanted = 0
        self.full = asyncio.Event()
        self.clusters = clusters
        self.delta = delta
        self.version = version  # what delta clients say they have from an earlier stream
        self.reports = {
            name: _message(load_report(name, reported), _LRS) for name in clusters if reported
        }
        self.comes_back = False
        self.opened: list[float] = []
        self.random = Random(1)
        self._waiting: set[asyncio.Task] = set()
        self._address = (host, port)
        self._tls = client_side()
        self._opening = _opening(
            "DeltaAggregatedResources" if delta else "StreamAggregatedResources"
        )

    async def connect(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        gate = asyncio.Semaphore(500)  # as many SYNs at once as a listen queue takes

        async def one(number: int) -> None:
            async with gate:
                _, client = await loop.create_connection(
                    lambda: _Client(self, number), *self._address, ssl=self._tls
                )
                self.clients.append(client)

        begin = len(self.clients)
        await asyncio.gather(*(one(begin + i) for i in range(count)))

    async def cycle(self, count: int) -> None:
        """So many connections, one after the other in 200 lanes."""
        loop = asyncio.get_running_loop()
        numbers = iter(range(count))

        async def lane() -> None:
            for number in numbers:
                transport, client = await loop.create_connection(
                    lambda number=number: _Client(self, number), *self._address, ssl=self._tls
                )
                await client.answered.wait()
                if self._tls:  # close would wait for an answer, which gRPC doesn't give
                    transport.abort()
                else:
                    transport.close()

        await asyncio.gather(*(lane() for _ in range(200)))
        self.times.clear()

    def gone(self, client: _Client) -> None:
        """A client lost its connection."""
        self.lost += 1
        if self.comes_back:
            if time.monotonic() - client.since >= HEALTHY_S:
                client.backoff.reset()
            task = asyncio.create_task(self._return(client))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    async def _return(self, client: _Client) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(client.backoff.next())
            try:
                await loop.create_connection(lambda: client, *self._address, ssl=self._tls)
            except OSError:
                continue
            self.opened.append(time.monotonic())
            return

    def received(self, resources: int) -> None:
        self.times.append(time.monotonic())
        self.resources += resources
        if len(self.times) == self.wanted:
            self.full.set()

    async def until(self, count: int, within: float) -> dict[str, object]:
        """Wait for ``count`` responses since the last call."""
        self.wanted = count
        if len(self.times) < count:
            self.full.clear()
            try:
                async with asyncio.timeout(within):
                    await self.full.wait()
            except TimeoutError:
                pass
        times, self.times = sorted(self.times[:count]), self.times[count:]
        resources, self.resources = self.resources, 0
        return {
            "expected": count,
            "received": len(times),
            "lost": self.lost,
            "resources": resources,
            "p50": times[len(times) // 2] if times else 0,
            "p99": times[len(times) * 99 // 100] if times else 0,
            "last": times[-1] if times else 0,
        }


class _Client(asyncio.Protocol):
    def __init__(self, crowd: Crowd, number: int) -> None:
        self.crowd = crowd
        self.number = number
        self.name = crowd.clusters[number % len(crowd.clusters)]
        self._buffer = b""
        self._body = b""
        self._transport: asyncio.Transport | None = None
        self.answered = asyncio.Event()
        self.backoff = Backoff(Random(number))
        self.since = 0.0

    def connection_made(self, transport) -> None:
        self._transport = transport
        self._buffer = self._body = b""
        self.since = time.monotonic()
        node = wire.Node(id=f"bench-{self.number}", user_agent_name="gRPC bench")
        if self.crowd.delta:
            initial = {self.name: self.crowd.version} if self.crowd.version else {}
            first = wire.DeltaDiscoveryRequest(
                node=node,
                type_url=type_urls.EDS,
                resource_names_subscribe=[self.name],
                initial_resource_versions=initial,
            )
        else:
            first = wire.DiscoveryRequest(
                node=node, type_url=type_urls.EDS, resource_names=[self.name]
            )
        transport.write(self.crowd._opening + _message(first))  # noqa: SLF001 - one module
        if self.crowd.reports:
            hello = wire.LoadStatsRequest(node=node)
            transport.write(_headers(_LOAD_REPORTS, _LRS) + _message(hello, _LRS))
            self._report_later(self.crowd.random.uniform(0, _REPORT_EVERY_S))

    def _report_later(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self._report)

    def _report(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(self.crowd.reports[self.name])
            self._report_later(_REPORT_EVERY_S)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.crowd.gone(self)

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        at = 0
        while len(data) - at >= 9:
            length = int.from_bytes(data[at : at + 3], "big")
            if len(data) - at - 9 < length:
                break
            stream = int.from_bytes(data[at + 5 : at + 9], "big")
            self._take(data[at + 3], data[at + 4], stream, data[at + 9 : at + 9 + length])
            at += 9 + length
        self._buffer = data[at:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _DATA and stream == _ADS:
            self._body += payload
            while len(self._body) >= 5:
                length = int.from_bytes(self._body[1:5], "big")
                if len(self._body) < 5 + length:
                    break
                message, self._body = self._body[5 : 5 + length], self._body[5 + length :]
                self._answer(message)
        elif kind == _SETTINGS and not flags & _ACK:
            self._transport.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self._transport.write(_frame(_PING, _ACK, 0, payload))
        elif kind in {_RST, _GOAWAY}:
            self._transport.close()

    def _answer(self, message: bytes) -> None:
        fields = _fields(message)
        resources = int(2 in fields)
        if self.crowd.delta:
            reply = wire.DeltaDiscoveryRequest(
                type_url=type_urls.EDS, response_nonce=fields[5].decode()
            )
        else:
            reply = wire.DiscoveryRequest(
                version_info=fields.get(1, b"").decode(),
                resource_names=[self.name],
                type_url=type_urls.EDS,
                response_nonce=fields[5].decode(),
            )
        self._transport.write(_message(reply))
        self.answered.set()
        self.crowd.received(resources)

    def pause(self) -> None:
        """Stop reading for good, as a client does whose process is stopped."""
        self._transport.pause_reading()


async def _main(
    port: int, clusters: list[str], *, delta: bool, version: str, reported: int
) -> None:
    crowd = Crowd("127.0.0.1", port, clusters, delta=delta, version=version, reported=reported)
    loop = asyncio.get_running_loop()
    stuck = 0
    while line := (await loop.run_in_executor(None, sys.stdin.readline)).split():
        if line[0] == "stop":
            break
        if line[0] == "connect":
            begin = time.monotonic()
            await crowd.connect(int(line[1]))
            answer = await crowd.until(int(line[1]) if len(line) == 2 else 0, 120)
            answer["begin"] = begin
        elif line[0] == "stick":
            for client in crowd.clients[: int(line[1])]:
                client.pause()
            stuck = int(line[1])
            answer = {}
        elif line[0] == "cycle":
            await crowd.cycle(int(line[1]))
            answer = {}
        elif line[0] == "come":
            crowd.comes_back = True
            crowd.times.clear()
            answer = await crowd.until(int(line[2]), 180)
            answer["opened"] = sorted(crowd.opened)
        elif line[0] == "take":
            answer = await crowd.until(len(crowd.times), 0)
        else:
            answer = await crowd.until(len(crowd.clients) - stuck, 30)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _port, _clusters, _delta, _version, *_reported = sys.argv[1:]
    asyncio.run(
        _main(
            int(_port),
            _clusters.split(","),
            delta=_delta == "delta",
            version=_version,
            reported=int(*_reported or [0]),
        )
    )
