"""The methods of blocking stubs that may run more than once: retries and hedges.

Calls that block make their attempts in the caller's thread; for those that return at once, see
``attempted_call``. Calls whose request is a stream are all made in that way; see ``recorded_requests``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import grpc

from trimtab.attempt import Verdict
from trimtab.client.attempted_call import (
    CHANNEL_CLOSED,
    AttemptedCall,
    AttemptedExchange,
    AttemptedRequests,
    AttemptedStream,
    Run,
    ends_without,
)
from trimtab.client.attempts import Attempts, Request, Visit, trail
from trimtab.client.recorded_requests import RecordedRequests
from trimtab.client.sync_calls import (
    Calls,
    Metadata,
    StreamStream,
    StreamUnary,
    UnaryStream,
    UnaryUnary,
    told,
)
from trimtab.client.unreached import end_of

_Face = TypeVar("_Face", bound=AttemptedCall)
_NOT_BY_ITSELF = sys.maxsize  # how often a blocking call has left, that leaves again no more


class Declared(Calls):
    """What they share.

    Attributes:
        attempts: the channel's.
    """

    attempts: Attempts

    def returned(self, kind: type[_Face], how: str, request: Any, *given: Any) -> _Face:
        """Begin a call and return it at once; ``given`` are the other arguments of ``Calls.begin``."""
        timeout, *rest = given
        waits = rest[2]
        cluster = self._cluster
        clock = cluster.clock
        now = clock()
        stream = self.streams or issubclass(kind, AttemptedStream)
        state = self.attempts.begin(self.method, timeout, now, overlap=not stream, waits=waits)
        left = state.course.left(now)

        def begin(left: float | None) -> Any:
            return self.begin(how, request, left, *rest)

        def begin_recorded(left: float | None) -> Any:
            return self.begin(how, requests.attempt(), left, *rest)

        if self.streams:
            requests = RecordedRequests(request, self.attempts.buffer_bytes)
            state.recording = requests.recording
        run = Run(
            state,
            clock,
            cluster.alarms,
            begin_recorded if self.streams else begin,
            stream=stream,
            end=self._told(),
        )
        call = kind(run, None if left is None else now + left, clock)
        run.start(call)
        return call


class RetryingUnaryUnary(Declared, UnaryUnary):
    """A unary method; see ``attempt.Course`` for the rules.

    Whether it may run more than once is asked at each call: a Service's owner may say so later.
    """

    def __call__(  # type: ignore[override]  # the base's is ``block``, for speed
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Metadata = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """The response. Raises ``grpc.RpcError``, that of the last attempt."""
        wait_for_ready = self.attempts.waits(self.method, wait_for_ready)
        if not self.attempts.declares(self.method):
            return self.block(request, timeout, metadata, credentials, wait_for_ready, compression)
        how = (credentials, wait_for_ready, compression)
        return self._to_its_end("__call__", request, timeout, metadata, *how)

    def with_call(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Metadata = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """The response and the attempt that gave it. Raises ``grpc.RpcError``."""
        wait_for_ready = self.attempts.waits(self.method, wait_for_ready)
        if not self.attempts.declares(self.method):
            return super().with_call(
                request, timeout, metadata, credentials, wait_for_ready, compression
            )
        how = (credentials, wait_for_ready, compression)
        return self._to_its_end("with_call", request, timeout, metadata, *how)

    def future(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Metadata = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """The call, which is a future of the response."""
        wait_for_ready = self.attempts.waits(self.method, wait_for_ready)
        if not self.attempts.follows(self.method, wait_for_ready):
            return super().future(
                request, timeout, metadata, credentials, wait_for_ready, compression
            )
        return self.returned(
            AttemptedCall,
            "future",
            request,
            timeout,
            metadata,
            credentials,
            wait_for_ready,
            compression,
        )

    def _to_its_end(
        self,
        kind: str,
        request: Any,
        timeout: float | None,
        metadata: Metadata,
        *how: Any,
    ) -> Any:
        now = self._cluster.clock()
        state = self.attempts.begin(self.method, timeout, now, waits=how[1])
        run = self._at_once if state.overlaps else self._in_turn
        return told(self._told(), run, state, kind, request, metadata, how)

    def _in_turn(
        self, state: Request, kind: str, request: Any, metadata: Metadata, how: tuple[Any, Any, Any]
    ) -> Any:
        """Attempts that follow one another are blocking calls as any other: nothing is cheaper."""
        clock, course, alarms = self._cluster.clock, state.course, self._cluster.alarms
        further = False
        while True:
            visit = Visit(state.been)
            token = trail.set(visit)
            try:
                left = course.attempt_timeout(clock())
                answer = self.block(request, left, metadata, *how, kind, _NOT_BY_ITSELF)
            except grpc.RpcError as error:
                now = clock()
                verdict = course.ended(now, end_of(state, visit, now, error))
                if verdict is Verdict.FINAL:
                    raise
                if verdict is Verdict.WAIT:
                    at = course.next_at
                    if at is not None and not alarms.wait(at):
                        raise ends_without(CHANNEL_CLOSED) from None
                    if not course.due(clock() if at is None else max(at, clock())):
                        raise
                further = True
            except ValueError as error:  # the channel was closed
                if not further:
                    raise
                raise ends_without(error) from None
            else:
                now = clock()
                course.ended(now, state.ended(now, 0, ()))
                return answer
            finally:
                trail.reset(token)

    def _at_once(
        self, state: Request, kind: str, request: Any, metadata: Metadata, how: tuple[Any, Any, Any]
    ) -> Any:
        call = self._first_of(state, request, metadata, how)
        return call.result() if kind == "__call__" else (call.result(), call)

    def _first_of(
        self, state: Request, request: Any, metadata: Metadata, how: tuple[Any, ...]
    ) -> Any:
        """The attempt that ends the request; the others are cancelled."""
        clock, alarms = self._cluster.clock, self._cluster.alarms
        course = state.course
        ended: SimpleQueue[Any] = SimpleQueue()
        running: dict[Any, Visit] = {}
        last = None

        def start() -> None:
            visit = Visit(state.been)
            call = self._attempt(state, visit, clock(), request, metadata, how)
            running[call] = visit
            call.add_done_callback(ended.put)

        try:
            start()
            while True:
                at = course.next_at
                if not running and at is not None and not alarms.wait(at):
                    raise ends_without(CHANNEL_CLOSED)
                try:
                    call = ended.get(timeout=None if at is None else max(0.0, at - clock()))
                except Empty:
                    if course.due(clock()):
                        start()
                    elif not running:
                        return last
                    continue
                visit = running.pop(call)
                last = call
                now = clock()
                end = end_of(state, visit, now, call)
                verdict = course.ended(now, end)
                if verdict is Verdict.FINAL:
                    return call
                if verdict is Verdict.AGAIN:
                    start()
        finally:
            for call in running:
                call.cancel()

    def _attempt(
        self,
        state: Request,
        visit: Visit,
        now: float,
        request: Any,
        metadata: Metadata,
        how: tuple[Any, ...],
    ) -> Any:
        token = trail.set(visit)
        try:
            timeout = state.course.attempt_timeout(now)
            return self.begin("future", request, timeout, metadata, *how)
        finally:
            trail.reset(token)


class OnceUnaryUnary(RetryingUnaryUnary):
    """A unary method of a channel whose calls may not run more than once."""

    __call__ = Calls.block  # for speed
    with_call = UnaryUnary.with_call


class RetryingUnaryStream(Declared, UnaryStream):
    """A method whose response is a stream: attempts until its first message, one after the other."""

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Metadata = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """The call, which is an iterator of the responses."""
        wait_for_ready = self.attempts.waits(self.method, wait_for_ready)
        if not self.attempts.follows(self.method, wait_for_ready):
            return super().__call__(
                request, timeout, metadata, credentials, wait_for_ready, compression
            )
        return self.returned(
            AttemptedStream,
            "__call__",
            request,
            timeout,
            metadata,
            credentials,
            wait_for_ready,
            compression,
        )


class RetryingStreamUnary(Declared, StreamUnary):
    """A method whose request is a stream: attempts one after the other, each from the first message on."""

    def __call__(
        self,
        request_iterator: Iterator[Any],
        timeout: float | None = None,
        metadata: Metadata = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """The response. Raises ``grpc.RpcError``, that of the last attempt."""
        wait_for_ready = self.attempts.waits(self.method, wait_for_ready)
        how = (timeout, metadata, credentials, wait_for_ready, compression)
        if not self.attempts.follows(self.method, wait_for_ready):
            return super().__call__(request_iterator, *how)
        return self._waited_for(request_iterator, *how)[0]

    def with_call(
        self,
        request_iterator: Iterator[Any],
        timeout: float | None = None,
        metadata: Metadata = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """The response and the attempt that gave it. Raises ``grpc.RpcError``."""
        wait_for_ready = self.attempts.waits(self.method, wait_for_ready)
        how = (timeout, metadata, credentials, wait_for_ready, compression)
        if not self.attempts.follows(self.method, wait_for_ready):
            return super().with_call(request_iterator, *how)
        return self._waited_for(request_iterator, *how)

    def future(
        self,
        request_iterator: Iterator[Any],
        timeout: float | None = None,
        metadata: Metadata = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """The call, which is a future of the response."""
        wait_for_ready = self.attempts.waits(self.method, wait_for_ready)
        how = (timeout, metadata, credentials, wait_for_ready, compression)
        if not self.attempts.follows(self.method, wait_for_ready):
            return super().future(request_iterator, *how)
        return self.returned(AttemptedRequests, "future", request_iterator, *how)

    def _waited_for(self, *given: Any) -> tuple[Any, Any]:
        call = self.returned(AttemptedRequests, "future", *given)
        try:
            return call.result(), call
        finally:
            call.cancel()  # KeyboardInterrupt and the like: nobody waits any more


class RetryingStreamStream(Declared, StreamStream):
    """A method of which both are streams: attempts until the response's first message, one after the other."""

    def __call__(
        self,
        request_iterator: Iterator[Any],
        timeout: float | None = None,
        metadata: Metadata = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """The call, which is an iterator of the responses."""
        wait_for_ready = self.attempts.waits(self.method, wait_for_ready)
        how = (timeout, metadata, credentials, wait_for_ready, compression)
        if not self.attempts.follows(self.method, wait_for_ready):
            return super().__call__(request_iterator, *how)
        return self.returned(AttemptedExchange, "__call__", request_iterator, *how)
