"""One client's stream: what it sends goes into a session, what the session has goes out.

One reader, in the handler's own task, and one writer. There is no queue: a message is built when the
one before has been taken by the transport, so that a slow client gets the latest state and costs one
message at most. Whatever goes wrong ends this stream and no other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from trimtab.control import metrics
from trimtab.control.limits import RequestRate
from trimtab.control.logs import printable
from trimtab.discovery.pause import pause
from trimtab.errors import ProtocolError
from trimtab.telemetry import Counters
from trimtab.xds import type_urls
from trimtab.xds.server_session import (
    Acked,
    Nacked,
    ServerSession,
    Subscribed,
    TooLarge,
    Unserved,
)

_LOG = logging.getLogger(__name__)

Call = grpc.aio.ServicerContext[Any, bytes]  # a read gives bytes, or EOF


@dataclass(frozen=True, slots=True)
class Ending:
    """How a stream ends.

    Attributes:
        reason: for the metric; one word of a bounded set.
        code: what the client is told.
        details: the text that the client is told.
    """

    reason: str
    code: grpc.StatusCode
    details: str = ""


AGED = Ending(
    "connection_age", grpc.StatusCode.UNAVAILABLE, "this stream is old enough; connect again"
)
EXPIRED = Ending(
    "identity_expired",
    grpc.StatusCode.UNAUTHENTICATED,
    "the token of this stream has expired; connect again with a fresh one",
)
DRAINED = Ending(
    "drained", grpc.StatusCode.UNAVAILABLE, "this trimtab is shutting down; connect again"
)
_LAST_WRITE_S = 0.5  # a message that is being written when the stream ends may still get out
_CLIENT_CLOSED = Ending("client_closed", grpc.StatusCode.OK)
# A cancelled stream reads as closed too; gRPC tells of the cancellation right after.
_LAST_WORD_S = 0.05


class Stream:
    """One stream from its first byte to its end.

    Args:
        number: unique in this process; log lines and ``INTERNAL`` answers name it.
        session: the protocol.
        call: the transport.
        service: ``ads``, ``eds`` and so on.
        transport: ``sotw`` or ``delta``.
        clock: loop time [s].
        rate: how often it may send requests.
        origins: by cluster, when its last change happened at its origin [s, loop time].
        encoding: shared by all streams: who has it encodes, for one turn of the loop.
        subject: its verified identity, "" if it has proved none.
    """

    __slots__ = ("_call", "_clock", "_counters", "_encoding", "_ending", "_looks", "_origins",
                 "_rate", "_reader", "_since", "_timer", "_writer", "connected_at", "number",
                 "peer", "service", "session", "subject", "transport")  # fmt: skip

    def __init__(
        self,
        number: int,
        session: ServerSession,
        call: Call,
        counters: Counters,
        *,
        service: str,
        transport: str,
        clock: Callable[[], float],
        rate: RequestRate,
        origins: Mapping[str, float],
        encoding: asyncio.Lock,
        subject: str = "",
    ) -> None:
        self.number = number
        self.subject = subject
        self._rate = rate
        self._origins = origins
        self._encoding = encoding
        self.session = session
        self.service = service
        self.transport = transport
        self.peer = call.peer()
        self.connected_at = clock()
        # How many found the message waiting that is being written; None: none is.
        self._looks: int | None = None
        self._call = call
        self._counters = counters
        self._clock = clock
        self._writer: asyncio.Task[None] | None = None  # while there is something to write
        self._since: float | None = None
        self._reader: asyncio.Task[Any] | None = None  # while it reads
        self._timer: asyncio.TimerHandle | None = None
        self._ending: Ending | None = None

    @property
    def client_kind(self) -> str:
        """``trimtab``, ``grpc``, ``envoy`` or ``other``; ``unknown`` before the first request."""
        client = self.session.client
        return client.kind.value if client else "unknown"

    async def run(self, *, age_s: float, aged: Ending, doubt_s: float) -> Ending:
        """Read and write until the end, and say how it ended.

        For the handler's task: a reader with a task of its own is more memory for each stream.

        Args:
            age_s: when the stream ends in any case [s from now].
            aged: why then.
            doubt_s: how long what the client brings along, and nobody here has heard of, is not
                said to be gone [s].
        """
        # One timer after the other, not two at a time: most streams are at rest.
        self._timer = asyncio.get_running_loop().call_later(
            min(doubt_s, age_s), self._grow_old, age_s - doubt_s, aged
        )
        try:
            ending = await self._read_to_the_end()
            if self._writer is not None:
                await asyncio.wait((self._writer,), timeout=_LAST_WRITE_S)
            return ending
        finally:
            self._timer.cancel()
            if self._writer is not None:
                self._writer.cancel()

    async def _read_to_the_end(self) -> Ending:
        task = self._reader = asyncio.current_task()
        try:
            if self._ending is None:
                await self._read()
        except asyncio.CancelledError:
            # By ``end``. If gRPC did so as well, or alone, nobody is left to be told how it ended.
            if self._ending is None or (task is not None and task.uncancel()):
                raise
        except Exception as error:  # noqa: BLE001 - a fault of one stream must not reach the others
            self._reader = None
            self._end_by(error)
        finally:
            self._reader = None
        self._ending = self._ending or _CLIENT_CLOSED
        return self._ending

    def _grow_old(self, left_s: float, aged: Ending) -> None:
        if left_s <= 0:
            self.end(aged)
            return
        self._timer = asyncio.get_running_loop().call_later(left_s, self.end, aged)
        # What the client has and nobody here has heard of by now is gone.
        if self._ending is None and self.session.believe():
            self._go_on()

    @property
    def write_pending(self) -> bool:
        """Whether the transport still has a message that the client has not taken."""
        return self._looks is not None

    def check_reader(self, looks: int, deadline_s: float) -> None:
        """End the stream if a message has waited for its client at more than ``looks`` looks in a row.

        Called for all streams, so many times within ``deadline_s``: a timer for each write costs a tenth
        of a push. Looks are counted and not seconds: while the loop stands still nobody can hear that a client
        has read.
        """
        if self._looks is None or self._ending is not None:
            return
        self._looks += 1
        if self._looks <= looks:
            return
        self._counters.add(metrics.WRITE_DEADLINES)
        _LOG.warning("%s did not read for %g s; ending it", self, deadline_s)
        self.end(
            Ending(
                "write_deadline",
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"nothing was read from this stream for {deadline_s:g} s",
            )
        )

    def changed(self, clusters: Collection[str], since: float) -> bool:
        """See ``store.Listener``."""
        if self._ending is not None:
            return False
        try:
            concerned = self.session.changed(clusters)
        except Exception as error:  # noqa: BLE001 - a fault of one stream must not reach the others
            self._fault(error)
            return False
        if concerned:
            if self._since is None:
                self._since = since
            self._go_on()
        return concerned

    def end(self, ending: Ending) -> None:
        """End the stream; the first reason stands."""
        if self._ending is None:
            self._ending = ending
            if self._reader is not None:
                self._reader.cancel()

    def _end_by(self, error: Exception) -> None:
        """End the stream for what its reader or its writer came upon."""
        if isinstance(error, ProtocolError):
            self._counters.add(metrics.PROTOCOL_ERRORS)
            text = printable(str(error))
            _LOG.warning("%s broke the protocol: %s", self, text)
            self.end(Ending("protocol_error", grpc.StatusCode.INVALID_ARGUMENT, text))
        elif isinstance(error, grpc.RpcError | grpc.aio.InternalError | asyncio.InvalidStateError):
            # The transport is gone; grpc.aio has many ways to say so.
            self.end(Ending("client_gone", grpc.StatusCode.CANCELLED, str(error)))
        else:
            self._fault(error)

    def _fault(self, error: Exception) -> None:
        self._counters.add(metrics.EXCEPTIONS)
        _LOG.error("%s: unexpected %s; ending this stream", self, error, exc_info=error)
        self.end(
            Ending(
                "exception",
                grpc.StatusCode.INTERNAL,
                f"trimtab failed on stream {self.number}; its log says more",
            )
        )

    async def _read(self) -> None:
        while True:
            request = await self._call.read()
            if request is grpc.aio.EOF:
                await pause(_LAST_WORD_S)
                return
            self._counters.add(metrics.REQUESTS)
            if wait_s := self._rate.take(self._clock()):
                # Not read, it waits in the transport, and in the end with the client.
                self._counters.add(metrics.THROTTLED)
                await pause(wait_s)
            asks = self.session.receive(request, self._clock())
            self._count_events()
            if asks and self.session.changed(()):
                self._go_on()

    def _go_on(self) -> None:
        """Write what is due, unless that is under way: a stream at rest holds no task for it."""
        if self._writer is None:
            self._writer = asyncio.create_task(self._write(), name="writing a stream")

    async def _write(self) -> None:
        try:
            while True:
                if not self.session.prepared:
                    await self._prepare()
                if self._ending is not None:
                    return
                message = self.session.next_response()
                if message is None:
                    break
                self._count_events()
                await self._send(message)
            if self._since is not None:
                self._counters.observe(metrics.PUSH_SECONDS, self._clock() - self._since)
                self._since = None
        except Exception as error:  # noqa: BLE001 - a fault of one stream must not reach the others
            self._end_by(error)
        finally:
            self._writer = None

    async def _prepare(self) -> None:
        """Encode what many resources need, a part in each turn of the loop, whoever's it is."""
        while not self.session.prepared and self._ending is None:
            async with self._encoding:
                self.session.prepare()
                await pause(0)

    async def _send(self, message: bytes) -> None:
        self._looks = 0
        await self._call.write(message)
        self._rate.answer_due()
        self._looks = None
        type_name = type_urls.short(self.session.last_type)
        self._counters.add(metrics.RESPONSES, type_name)
        self._counters.add(metrics.RESPONSE_BYTES, type_name, by=len(message))

    def _count_events(self) -> None:
        for event in self.session.take_events():
            kind, type_name = self.client_kind, type_urls.short(event.type_url)
            match event:
                case Acked():
                    self._counters.add(metrics.ACKS, type_name, kind)
                    now = self._clock()
                    for cluster in event.replaced:
                        since = now - self._origins.get(cluster, now)
                        self._counters.observe(metrics.EVENT_ACK_SECONDS, since, type_name, kind)
                case Nacked():
                    self._counters.add(metrics.NACKS, type_name, kind)
                    _LOG.warning(
                        "%s rejected %s %s version %s and keeps what it had: %s",
                        self,
                        type_name,
                        printable(", ".join(event.names)),
                        event.version or "-",
                        printable(event.text, keep_tail=True),
                    )
                case TooLarge():
                    self._counters.add(metrics.OVERSIZE, type_name)
                    _LOG.error(
                        "%s was sent %d bytes of %s, which is more than the %d that native gRPC "
                        "accepts; let it subscribe to fewer names",
                        self,
                        event.size,
                        type_name,
                        event.limit,
                    )
                case Unserved():
                    _LOG.info("%s asked for %s, which trimtab does not serve", self, type_name)
                case Subscribed():
                    names = printable(", ".join(event.names))
                    _LOG.debug("%s subscribed to %s %s", self, type_name, names)

    def __str__(self) -> str:
        client = self.session.client
        node = printable(client.node_id) if client else "unknown client"
        who = f"{node} ({printable(self.subject)})" if self.subject else node
        return f"stream {self.number} of {who} at {self.peer}"
