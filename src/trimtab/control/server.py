"""The xDS server: gRPC methods to streams, and their orderly end.

grpc.aio with generic handlers and raw bytes: what costs here is a message's way through gRPC, not
protobuf. A stopped grpc.aio server leaves a traceback for every handler that still runs, so our
streams are ended first.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

import grpc
import grpc.aio

from trimtab.control import metrics
from trimtab.control.authentication import Authenticator, Unauthenticated
from trimtab.control.authorization import Authorization, Identity
from trimtab.control.config import Address
from trimtab.control.limits import Limits, RequestRate
from trimtab.control.load_stream import LoadStream
from trimtab.control.loads import Loads
from trimtab.control.logs import printable
from trimtab.control.methods import Handlers, Method
from trimtab.control.side_stream import SideStream
from trimtab.control.status_stream import Clients, StatusStream
from trimtab.control.store import Store
from trimtab.control.stream import AGED, DRAINED, EXPIRED, Call, Ending, Stream
from trimtab.control.tls import Certificate
from trimtab.discovery.pause import pause
from trimtab.errors import TrimtabError
from trimtab.telemetry import Counters
from trimtab.xds import type_urls
from trimtab.xds.load_stats import LoadStatsSession
from trimtab.xds.server_session import ServerSession

_LOG = logging.getLogger(__name__)

WRITE_DEADLINE_S = 60.0
DOUBT_S = 60.0
LOAD_INTERVAL_S = 10.0
_REPORTS_PER_S = 30.0  # of all clients together; where they are more, each reports less often
_LONGEST_LOAD_INTERVAL_S = 30.0
_STREAMS_PER_CONNECTION = 1000
_STOP_GRACE_S = 1.0
_CHECKS = 10  # of every reader, within the write deadline
_FIRST_WORD_S = 1.0
_MAX_REFUSING = 1000  # refused streams that wait for the client's first message
_EXPIRY_GRACE_S = 30.0  # between a token's end and its stream's: the fresh one is there by then
_QUICK_GRACE_S = 0.2  # without any, clients that have ended well are told of an internal error

# gRPC's names; reasons where the default would do harm.
_OPTIONS: tuple[tuple[str, int], ...] = (
    # Two servers on one port would share its clients in silence.
    ("grpc.so_reuseport", 0),
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
    """All streams of this process.

    Args:
        store: what is answered from.
        counters: what is counted.
        clock: loop time [s].
        wall: the wall clock [Unix seconds], which tokens end by.
        random: for the jitter of ages.
        write_deadline_s: how long a message may wait for its client to read [s].
        limits: what clients may cost.
        certificate: None: plaintext.
        authenticator: how clients prove who they are; None: they needn't, and see everything.
        authorization: what they may see.
        load_interval_s: how often clients report their load [s].
        status_readers: patterns of the subjects that may ask for every client's status.
        doubt_s: how long a cluster that a client brings along, and this replica has never heard of,
            is not said to be gone [s].

    Attributes:
        status_readers: see above; replaced as a whole when they change.
    """

    def __init__(
        self,
        store: Store,
        counters: Counters,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        random: Random,
        write_deadline_s: float = WRITE_DEADLINE_S,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        certificate: Certificate | None = None,
        authenticator: Authenticator | None = None,
        authorization: Authorization | None = None,
        load_interval_s: float = LOAD_INTERVAL_S,
        status_readers: Sequence[str] = (),
        doubt_s: float = DOUBT_S,
    ) -> None:
        self.status_readers = status_readers
        self._doubt_s = doubt_s
        self.streams: set[Stream] = set()
        self.loads = Loads(store.catalog, counters, clock)
        self._side_streams: set[SideStream] = set()
        self._reporters = 0
        self._refusing = 0
        self._load_interval_s = load_interval_s
        self.draining = False
        self._encoding = asyncio.Lock()
        self._store = store
        self._counters = counters
        self._clock = clock
        self._write_deadline_s = write_deadline_s
        self._opened = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self._wall = wall
        self._random = random
        self._limits = limits
        self._certificate = certificate
        self._authenticator = authenticator
        self._authorization = authorization
        self._owners: Counter[str] = Counter()
        self._server = grpc.aio.server(options=(*_OPTIONS, *limits.transport_options()))
        self._server.add_generic_rpc_handlers((Handlers(self._handle),))

    async def start(self, address: Address) -> Address:
        """Listen, and say where (port 0 becomes a real one).

        Raises:
            TrimtabError: the address can't be had.
        """
        # gRPC takes IPv4 there as well, and alone where there is no IPv6.
        where = str(address) if address.host else f"[::]{address}"
        try:
            port = (
                self._server.add_secure_port(where, self._certificate.credentials())
                if self._certificate
                else self._server.add_insecure_port(where)
            )
        except RuntimeError:
            port = 0
        if not port:
            raise TrimtabError(
                f"--xds {address}: cannot listen there; another process may have the port, or the "
                f"address is not of this machine. Choose another (port 0: any free one)"
            )
        await self._server.start()
        return Address(address.host, port)

    async def drain(self, seconds: float, random: Random) -> None:
        """End all streams, spread evenly at random over ``seconds``, then stop."""
        self.draining = True
        # GOAWAY goes out now, so that a client whose stream ends goes to another replica.
        stopping = asyncio.create_task(self._server.stop(seconds + _STOP_GRACE_S))
        loop = asyncio.get_running_loop()
        for stream in self._all_streams():
            loop.call_later(random.uniform(0, seconds), stream.end, DRAINED)
        await stopping

    async def stop(self) -> None:
        """End all streams and stop at once."""
        self.draining = True
        for stream in self._all_streams():
            stream.end(DRAINED)
        try:
            async with asyncio.timeout(_STOP_GRACE_S):
                await self._empty.wait()
        except TimeoutError:
            _LOG.warning("%d streams did not end in time", len(self.streams))
        await self._server.stop(_QUICK_GRACE_S)

    async def watch_readers(self) -> None:
        """End streams whose clients don't read, for ever."""
        while True:
            for stream in tuple(self.streams):
                stream.check_reader(_CHECKS, self._write_deadline_s)
            await pause(self._write_deadline_s / _CHECKS)

    def measure(self) -> None:
        """Bring the gauges up to date, before they are read."""
        self.loads.measure()
        counts = Counter((s.service, s.transport, s.client_kind) for s in self.streams)
        self._counters.clear(metrics.STREAMS)
        for labels, count in counts.items():
            self._counters.set(metrics.STREAMS, count, *labels)
        held = Counter(
            (type_urls.short(t), s.client_kind) for s in self.streams for t in s.session.held()
        )
        self._counters.clear(metrics.STREAMS_HELD)
        for about, count in held.items():
            self._counters.set(metrics.STREAMS_HELD, count, *about)

    def reauthorize(self) -> None:
        """The policy changed: tell every stream what it may have now."""
        self._store.reauthorize()

    async def _handle(self, method: Method, _requests: object, call: Call) -> None:
        try:
            identity = await self._authenticator.identify(call) if self._authenticator else None
        except Unauthenticated as error:
            await self._refuse(call, grpc.StatusCode.UNAUTHENTICATED, error.reason, str(error))
            return
        # The peer's port is a new one for each connection.
        owner = identity.subject if identity else call.peer().rpartition(":")[0]
        full = self._full(owner)
        if full:
            text = f"limits.{full}: {getattr(self._limits, full)} streams are open already"
            await self._refuse(call, grpc.StatusCode.RESOURCE_EXHAUSTED, full, text)
            return
        self._owners[owner] += 1
        try:
            if method.service == "lrs":
                self._reporters += 1
                try:
                    await self._side_stream(method, self._load_stream(call, identity), identity)
                finally:
                    self._reporters -= 1
            elif method.service == "csds":
                await self._side_stream(method, self._status_stream(call, identity), identity)
            else:
                await self._stream(method, call, identity)
        finally:
            self._owners[owner] -= 1
            if not self._owners[owner]:
                del self._owners[owner]

    def _full(self, owner: str) -> str:
        if len(self.streams) + len(self._side_streams) >= self._limits.streams:
            return "streams"
        over = self._owners[owner] >= self._limits.streams_per_identity
        return "streams_per_identity" if over else ""

    async def _refuse(self, call: Call, code: grpc.StatusCode, reason: str, text: str) -> None:
        self._counters.add(metrics.REFUSED, reason)
        _LOG.warning("refused a stream of %s: %s", printable(call.peer()), printable(text))
        if self._refusing < _MAX_REFUSING:
            self._refusing += 1
            # Refused before its first message has arrived, a client may see the reset stream
            # (INTERNAL) in place of the status.
            reading = asyncio.ensure_future(call.read())
            try:
                await asyncio.wait((reading,), timeout=_FIRST_WORD_S)
            finally:
                reading.cancel()
                self._refusing -= 1
        call.set_code(code)
        call.set_details(text)

    def _end_of(self, identity: Identity | None) -> tuple[float, Ending]:
        """When a new stream must end in any case [s from now], and why."""
        age_s = self._limits.draw_age(self._random)
        if identity is not None and identity.expires_at is not None:
            # One that has just been accepted has not ended, whatever this machine's clock says.
            left_s = max(0.0, identity.expires_at - self._wall()) + _EXPIRY_GRACE_S
            if left_s < age_s:
                return left_s, EXPIRED
        return age_s, AGED

    async def _stream(self, method: Method, call: Call, identity: Identity | None) -> None:
        self._opened += 1
        self._counters.add(metrics.STREAMS_TOTAL, method.service, method.transport)
        authorization = self._authorization
        session = ServerSession(
            self._store.catalog,
            delta=method.delta,
            type_url=method.type_url,
            limits=self._limits.of_session(),
            audience=authorization.audience(identity) if authorization and identity else None,
            patient=True,
        )
        stream = Stream(
            self._opened,
            session,
            call,
            self._counters,
            service=method.service,
            transport=method.transport,
            clock=self._clock,
            rate=self._request_rate(),
            origins=self._store.origins,
            encoding=self._encoding,
            subject=identity.subject if identity else "",
        )
        age_s, aged = self._end_of(identity)
        if self.draining:
            stream.end(DRAINED)
        self.streams.add(stream)
        self._empty.clear()
        self._store.listen(stream)
        reason = "client_gone"
        try:
            ending = await stream.run(age_s=age_s, aged=aged, doubt_s=self._doubt_s)
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
            self._note_empty()
            self._counters.add(metrics.STREAM_ENDS, reason)
            _LOG.debug("%s ended: %s", stream, reason)

    def _all_streams(self) -> tuple[Stream | SideStream, ...]:
        return (*self.streams, *self._side_streams)

    def _note_empty(self) -> None:
        if not self.streams and not self._side_streams:
            self._empty.set()

    def _load_interval(self) -> float:
        """How often one more client shall report [s]."""
        crowded_s = min(_LONGEST_LOAD_INTERVAL_S, self._reporters / _REPORTS_PER_S)
        return max(self._load_interval_s, crowded_s)

    def _request_rate(self) -> RequestRate:
        limits = self._limits
        return RequestRate(limits.requests_per_second, limits.request_burst, self._clock())

    def _load_stream(self, call: Call, identity: Identity | None) -> LoadStream:
        limits, authorization = self._limits, self._authorization
        return LoadStream(
            LoadStatsSession(
                self._load_interval(),
                request_bytes=limits.request_bytes,
                node_bytes=limits.node_bytes,
            ),
            call,
            self.loads,
            self._counters,
            clock=self._clock,
            rate=self._request_rate(),
            audience=authorization.audience(identity) if authorization and identity else None,
        )

    def _status_stream(self, call: Call, identity: Identity | None) -> StatusStream:
        def clients() -> Clients:
            return Clients(
                sorted(self.streams, key=lambda stream: stream.number),
                self._store.catalog,
                identity,
                self.status_readers,
                now=self._clock(),
                unix=self._wall(),
            )

        return StatusStream(
            clients, call, self._counters, clock=self._clock, rate=self._request_rate()
        )

    async def _side_stream(
        self, method: Method, stream: SideStream, identity: Identity | None
    ) -> None:
        self._counters.add(metrics.STREAMS_TOTAL, method.service, method.transport)
        age_s, aged = self._end_of(identity)
        timer = asyncio.get_running_loop().call_later(age_s, stream.end, aged)
        if self.draining:
            stream.end(DRAINED)
        self._side_streams.add(stream)
        self._empty.clear()
        reason = "client_gone"
        try:
            ending = await stream.run()
            reason = ending.reason
            stream.call.set_code(ending.code)
            stream.call.set_details(ending.details)
        finally:
            timer.cancel()
            self._side_streams.discard(stream)
            self._note_empty()
            self._counters.add(metrics.STREAM_ENDS, reason)
