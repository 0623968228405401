"""The asyncio interceptor that makes further attempts: retries and hedges of unary calls.

It stands below the caller's interceptors and above the one that waits for endpoints, so that each
attempt is placed anew. Only methods that were declared safe to run more than once pass through it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import grpc
import grpc.aio

from trimtab.attempt import Verdict
from trimtab.client.afterwards import afterwards
from trimtab.client.attempts import Attempts, Request, Visit, trail
from trimtab.client.observing import End, Observer, plain
from trimtab.client.unreached import unreached

_Run = TypeVar("_Run", bound="Run")


class Declared:
    """What the interceptors of all arities share.

    Args:
        attempts: the channel's.
        clock: monotonic seconds.
        service: the cluster's name.
        observer: who watches; None: nobody.
    """

    def __init__(
        self,
        attempts: Attempts,
        clock: Callable[[], float],
        service: str = "",
        observer: Observer | None = None,
    ) -> None:
        self._attempts = attempts
        self._clock = clock
        self._service = service
        self._observer = observer

    def run_of(
        self,
        kind: type[_Run],
        continuation: Any,
        details: Any,
        request: Any,
        *,
        overlap: bool = True,
    ) -> _Run | None:
        """A request that may leave again from here; None: one that may not."""
        method = details.method.decode() if isinstance(details.method, bytes) else details.method
        waits = self._attempts.waits(method, details.wait_for_ready)
        if not self._attempts.follows(method, waits):
            return None
        if waits and not details.wait_for_ready:
            details = grpc.aio.ClientCallDetails(
                method=details.method,
                timeout=details.timeout,
                metadata=details.metadata,
                credentials=details.credentials,
                wait_for_ready=True,
            )
        state = self._attempts.begin(
            method, details.timeout, self._clock(), overlap=overlap, waits=waits
        )
        return kind(state, self._clock, continuation, details, request)

    def told(self, method: Any) -> End:
        """Tell who watches that a request begins."""
        if self._observer is None:
            return _nobody
        return self._observer.call(self._service, plain(method))

    async def ended_call(self, run: Run, method: Any) -> Any:
        """The call that ends a request which has one response; who watches is told."""
        end = self.told(method)
        status = "CANCELLED"
        try:
            call = await run.to_its_end()
            status = (await call.code()).name
        except grpc.aio.AioRpcError as error:
            status = error.code().name
            raise
        except GeneratorExit:  # its loop was closed, and this is garbage
            afterwards(partial(end, status))
            end = _nobody
            raise
        finally:
            end(status)
        return call

    async def opened_call(self, run: Run, method: Any) -> Any:
        """The call that has the first message of a response that is a stream; who watches is told."""
        end = self.told(method)
        try:
            opened = await run.to_its_end()
        except grpc.aio.AioRpcError as error:
            end(error.code().name)
            raise
        except GeneratorExit:  # as above
            afterwards(partial(end, "CANCELLED"))
            raise
        except BaseException:
            end("CANCELLED")
            raise
        opened.end = end
        return opened


def _nobody(_status: str) -> None:
    """Nobody watches."""


class Retrying(Declared, grpc.aio.UnaryUnaryClientInterceptor):
    """See ``attempt.Course`` for the rules."""

    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        """Make attempts until one is the request's end; the others are cancelled."""
        run = self.run_of(Run, continuation, client_call_details, request)
        if run is None:
            return await continuation(client_call_details, request)
        if self._observer is None:  # a coroutine less for every call
            return await run.to_its_end()
        return await self.ended_call(run, client_call_details.method)


class Run:
    """One request's attempts.

    Those that may overlap are each in a task of their own: one that waits for an endpoint holds up none.
    Those that follow one another need none, which saves a twentieth of such a call.

    Attributes:
        state: the request's.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        state: Request,
        clock: Callable[[], float],
        continuation: Any,
        details: Any,
        request: Any,
    ) -> None:
        self.state = state
        self.clock = clock
        self._continuation = continuation
        self._details = details
        self._request = request
        self._running: dict[asyncio.Task[Any], Visit] = {}
        self._ended: asyncio.Queue[asyncio.Task[Any]] = asyncio.Queue()

    async def to_its_end(self) -> Any:
        """The call that ends the request; raises the error of an attempt that found no endpoint."""
        return await (self._side_by_side() if self.state.overlaps else self._in_turn())

    async def _in_turn(self) -> Any:
        while True:
            visit = Visit(self.state.been)
            try:
                call = await self.attempt(visit)
            except grpc.aio.AioRpcError as error:
                if not await self._follows(await self.verdict(None, error, visit)):
                    raise
            else:
                if not await self._follows(await self.verdict(call, None, visit)):
                    return call

    async def _follows(self, verdict: Verdict) -> bool:
        """Whether another attempt is to be made now, after the pause before it; none is under way."""
        if verdict is not Verdict.WAIT:
            return verdict is Verdict.AGAIN
        at = self.state.course.next_at
        await self._next_end()  # there is none: it returns when the time has come
        return self.state.course.due(self.clock() if at is None else max(at, self.clock()))

    async def _side_by_side(self) -> Any:
        course = self.state.course
        last = None
        try:
            self._start()
            while True:
                attempt = await self._next_end()
                if attempt is None:
                    if course.due(self.clock()):
                        self._start()
                    elif not self._running:
                        return self._call_of(last)
                    continue
                visit = self._running.pop(attempt)
                last = attempt
                error = attempt.exception()
                call = attempt.result() if error is None else None
                verdict = await self.verdict(call, error, visit)
                if verdict is Verdict.FINAL:
                    return self._call_of(attempt)
                if verdict is Verdict.AGAIN:
                    self._start()
        finally:
            for attempt in self._running:
                if not attempt.cancel() and not attempt.cancelled() and not attempt.exception():
                    attempt.result().cancel()  # a stream that opened at the same time

    def _start(self) -> None:
        visit = Visit(self.state.been)
        attempt = asyncio.Task(self.attempt(visit))
        self._running[attempt] = visit
        attempt.add_done_callback(self._note_end)

    def _note_end(self, attempt: asyncio.Task[Any]) -> None:
        if not attempt.cancelled():
            attempt.exception()  # looked at: the one of a hedge that lost is nobody's business
        self._ended.put_nowait(attempt)

    async def attempt(self, visit: Visit) -> Any:
        """A call that has ended; raises ``AioRpcError`` if none was made."""
        call = None
        try:
            call = await self.sent(visit, self.state.course.attempt_timeout(self.clock()))
            await call.code()
        except asyncio.CancelledError:
            if call is not None:
                call.cancel()
            raise
        return call

    async def sent(self, visit: Visit, limit_s: float | None) -> Any:
        """A call that has left, with this timeout."""
        details = self._details
        token = trail.set(visit)
        try:
            return await self._continuation(
                grpc.aio.ClientCallDetails(
                    method=details.method,
                    timeout=limit_s,
                    metadata=details.metadata,
                    credentials=details.credentials,
                    wait_for_ready=details.wait_for_ready,
                ),
                self._request,
            )
        finally:
            trail.reset(token)

    async def _next_end(self) -> asyncio.Task[Any] | None:
        """The attempt that ended; None: it is time to look whether another is due."""
        at = self.state.course.next_at
        try:
            async with asyncio.timeout(None if at is None else max(0.0, at - self.clock())):
                return await self._ended.get()
        except TimeoutError:
            return None

    async def verdict(self, call: Any, error: BaseException | None, visit: Visit) -> Verdict:
        """What an attempt's end means: it is a call that has ended, or the error of one that was not made."""
        trailing = details = initial = None
        if isinstance(error, grpc.aio.AioRpcError):
            code, trailing, details = error.code(), error.trailing_metadata(), error.details()
            initial = error.initial_metadata()
        elif error is not None:
            raise error
        else:
            code = await call.code()
            if code is not grpc.StatusCode.OK:
                trailing, details = await call.trailing_metadata(), await call.details()
            if code is grpc.StatusCode.UNAVAILABLE:
                initial = await call.initial_metadata()
        now, number = self.clock(), code.value[0]
        unsent = number != 0 and unreached(visit.pick, number, details, initial)
        return self.state.course.ended(now, self.state.ended(now, number, trailing, unsent=unsent))

    @staticmethod
    def _call_of(attempt: asyncio.Task[Any] | None) -> Any:
        assert attempt is not None  # noqa: S101 - for the type checker: one has ended
        return attempt.result()
