"""The xDS server: gRPC methods to streams, and their orderly end.

grpc.aio with generic handlers and raw bytes: what costs here is a message's way through gRPC, not
protobuf. A stopped grpc.aio server leaves a traceback for every handler that still runs, so our
streams are ended first.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any

import grpc
import grpc.aio

from trimtab.control import metrics
from trimtab.control.config import Address
from trimtab.control.store import Store
from trimtab.control.stream import DRAINED, Call, Stream
from trimtab.errors import ConfigError
from trimtab.telemetry import Counters
from trimtab.xds.server_session import ServerSession

_LOG = logging.getLogger(__name__)

WRITE_DEADLINE_S = 60.0
MAX_REQUEST_BYTES = 4 << 20
_STREAMS_PER_CONNECTION = 1000
_STOP_GRACE_S = 1.0
_CHECKS = 10  # of every reader, within the write deadline
_QUICK_GRACE_S = 0.2  # without any, clients that have ended well are told of an internal error

_DISCOVERY = "envoy.service.{}.v3.{}DiscoveryService"
_TYPE = "type.googleapis.com/envoy.config.{}"


@dataclass(frozen=True, slots=True)
class Method:
    """One gRPC method: which service, which type (None: all of them), which transport."""

    service: str
    type_url: str | None
    delta: bool


def _methods() -> dict[str, Method]:
    services = (
        ("ads", "discovery", "Aggregated", "AggregatedResources", None),
        ("cds", "cluster", "Cluster", "Clusters", "cluster.v3.Cluster"),
        ("eds", "endpoint", "Endpoint", "Endpoints", "endpoint.v3.ClusterLoadAssignment"),
        ("lds", "listener", "Listener", "Listeners", "listener.v3.Listener"),
        ("rds", "route", "Route", "Routes", "route.v3.RouteConfiguration"),
    )
    found: dict[str, Method] = {}
    for short, package, service, plural, resource in services:
        type_url = _TYPE.format(resource) if resource else None
        path = f"/{_DISCOVERY.format(package, service)}"
        found[f"{path}/Stream{plural}"] = Method(short, type_url, delta=False)
        found[f"{path}/Delta{plural}"] = Method(short, type_url, delta=True)
    return found


METHODS = _methods()

# gRPC's names; reasons where the default would do harm.
_OPTIONS: tuple[tuple[str, int], ...] = (
    # Two servers on one port would share its clients in silence.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_concurrent_streams", _STREAMS_PER_CONNECTION),
    # By default 4,000 clients that connect at once lose 840 streams.
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 100_000),
    # A dead peer is noticed after 30 + 20 s. A frozen one answers to the ping timeout only, which
    # is 60 s unless it is set.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Clients may ping a quiet stream every 5 s; the default (300 s) would cut them off.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
)


class XdsServer:
    """All streams of this process."""

    def __init__(
        self,
        store: Store,
        counters: Counters,
        *,
        clock: Callable[[], float],
        write_deadline_s: float = WRITE_DEADLINE_S,
    ) -> None:
        self.streams: set[Stream] = set()
        self.draining = False
        self._store = store
        self._counters = counters
        self._clock = clock
        self._write_deadline_s = write_deadline_s
        self._opened = 0
        self._checking: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._empty.set()
        self._server = grpc.aio.server(options=_OPTIONS)
        self._server.add_generic_rpc_handlers((_Handlers(self._handle),))

    async def start(self, address: Address) -> Address:
        """Listen, and say where (port 0 becomes a real one).

        Raises:
            ConfigError: the address can't be had.
        """
        try:
            port = self._server.add_insecure_port(str(address))
        except RuntimeError:
            port = 0
        if not port:
            raise ConfigError(
                f"--xds {address}: cannot listen there; another process may have the port, or the "
                f"address is not of this machine. Choose another (port 0: any free one)"
            )
        await self._server.start()
        self._check_readers()
        return Address(address.host, port)

    async def drain(self, seconds: float, random: Random) -> None:
        """End all streams, spread evenly at random over ``seconds``, then stop."""
        self.draining = True
        # GOAWAY goes out now, so that a client whose stream ends goes to another replica.
        stopping = asyncio.create_task(self._server.stop(seconds + _STOP_GRACE_S))
        loop = asyncio.get_running_loop()
        for stream in self.streams:
            loop.call_later(random.uniform(0, seconds), stream.end, DRAINED)
        await stopping

    async def stop(self) -> None:
        """End all streams and stop at once."""
        self.draining = True
        for stream in tuple(self.streams):
            stream.end(DRAINED)
        try:
            async with asyncio.timeout(_STOP_GRACE_S):
                await self._empty.wait()
        except TimeoutError:
            _LOG.warning("%d streams did not end in time", len(self.streams))
        await self._server.stop(_QUICK_GRACE_S)
        if self._checking is not None:
            self._checking.cancel()

    def _check_readers(self) -> None:
        now = self._clock()
        for stream in tuple(self.streams):
            stream.check_reader(now, self._write_deadline_s)
        loop = asyncio.get_running_loop()
        self._checking = loop.call_later(self._write_deadline_s / _CHECKS, self._check_readers)

    def measure(self) -> None:
        """Bring the gauges up to date, before they are read."""
        counts = Counter((s.service, s.transport, s.client_kind) for s in self.streams)
        self._counters.clear(metrics.STREAMS)
        for labels, count in counts.items():
            self._counters.set(metrics.STREAMS, count, *labels)

    async def _handle(self, method: Method, call: Call) -> None:
        self._opened += 1
        self._counters.add(metrics.STREAMS_TOTAL, method.service, _transport(method))
        session = ServerSession(self._store.catalog, delta=method.delta, type_url=method.type_url)
        stream = Stream(
            self._opened,
            session,
            call,
            self._counters,
            service=method.service,
            transport=_transport(method),
            clock=self._clock,
        )
        if self.draining:
            stream.end(DRAINED)
        self.streams.add(stream)
        self._empty.clear()
        self._store.listen(stream)
        reason = "client_gone"
        try:
            ending = await stream.run()
            reason = ending.reason
            if stream.write_pending:
                # gRPC takes no status while a write is under way. This ends the handler; the
                # client is told when it reads on, or its connection dies of unanswered pings.
                raise asyncio.CancelledError
            call.set_code(ending.code)
            call.set_details(ending.details)
        finally:
            self._store.forget(stream)
            self.streams.discard(stream)
            if not self.streams:
                self._empty.set()
            self._counters.add(metrics.STREAM_ENDS, reason)
            _LOG.debug("%s ended: %s", stream, reason)


def _transport(method: Method) -> str:
    return "delta" if method.delta else "sotw"


class _Handlers(grpc.GenericRpcHandler):
    """Finds the method; an unknown one is UNIMPLEMENTED by gRPC itself."""

    def __init__(self, handle: Callable[[Method, Call], Coroutine[Any, Any, None]]) -> None:
        self._handle = handle

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        method = METHODS.get(handler_call_details.method)
        if method is None:
            return None

        async def handle(_requests: object, call: Call) -> None:
            await self._handle(method, call)

        return grpc.stream_stream_rpc_method_handler(handle)
