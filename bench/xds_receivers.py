"""Many xDS clients in one process, cheap enough to leave the machine to the server.

Each is a TCP connection of its own with hand-framed HTTP/2 and one ADS stream (state of the world or
delta) that names one cluster's endpoints, answers every response with an ACK, and notes when it came.
Clients made of grpc.aio would be what is measured. What is left out of HTTP/2 (flow control beyond one
huge window, header decoding, TLS) is left out for every server alike.

Commands on stdin, one line each; each is answered with one JSON line:

    connect N [silent]  open N more clients, and wait until each has its first response (silent:
                        until each is connected)
    round               wait until every client that reads has one more response; when each came
    take                what came since the last answer
    stick N             the first N clients read no more
    stop                close all
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time

from trimtab.xds import type_urls
from trimtab.xds import wire_pb2 as wire

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_HEADERS, _ACK = 4, 1
_HUGE = 2**31 - 1
_SERVICE = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"


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


def _opening(method: str) -> bytes:
    headers = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", _SERVICE + method),
        (":authority", "bench"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    )
    return (
        _PREFACE
        + _frame(_SETTINGS, 0, 0, struct.pack(">HI", 4, _HUGE) + struct.pack(">HI", 5, 2**20))
        + _frame(_WINDOW, 0, 0, struct.pack(">I", _HUGE - 65_535))
        + _frame(_HEADERS, _END_HEADERS, 1, b"".join(_literal(*h) for h in headers))
    )


def _message(request: wire.DiscoveryRequest | wire.DeltaDiscoveryRequest) -> bytes:
    body = request.SerializeToString()
    return _frame(_DATA, 0, 1, b"\0" + struct.pack(">I", len(body)) + body)


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
        self, host: str, port: int, clusters: list[str], *, delta: bool, version: str
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
        self._address = (host, port)
        self._opening = _opening(
            "DeltaAggregatedResources" if delta else "StreamAggregatedResources"
        )

    async def connect(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        gate = asyncio.Semaphore(500)  # as many SYNs at once as a listen queue takes

        async def one(number: int) -> None:
            async with gate:
                _, client = await loop.create_connection(
                    lambda: _Client(self, number), *self._address
                )
                self.clients.append(client)

        begin = len(self.clients)
        await asyncio.gather(*(one(begin + i) for i in range(count)))

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

    def connection_made(self, transport) -> None:
        self._transport = transport
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

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.crowd.lost += 1

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        at = 0
        while len(data) - at >= 9:
            length = int.from_bytes(data[at : at + 3], "big")
            if len(data) - at - 9 < length:
                break
            self._take(data[at + 3], data[at + 4], data[at + 9 : at + 9 + length])
            at += 9 + length
        self._buffer = data[at:]

    def _take(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == _DATA:
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
        self.crowd.received(resources)

    def pause(self) -> None:
        """Stop reading for good, as a client does whose process is stopped."""
        self._transport.pause_reading()


async def _main(port: int, clusters: list[str], delta: bool, version: str) -> None:
    crowd = Crowd("127.0.0.1", port, clusters, delta=delta, version=version)
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
        elif line[0] == "take":
            answer = await crowd.until(len(crowd.times), 0)
        else:
            answer = await crowd.until(len(crowd.clients) - stuck, 30)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _port, _clusters, _delta, _version = sys.argv[1:]
    asyncio.run(_main(int(_port), _clusters.split(","), _delta == "delta", _version))
