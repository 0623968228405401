"""Further attempts of asyncio calls whose request is a stream: each sends the messages anew from the first one on.

The caller gets his call at once, as he may be the one who writes the messages. Attempts follow one another, until one
has a response or the caller has seen that one's initial metadata, or until more was sent than is kept.

Attempts are written to, as gRPC's own reading of an iterator cancels a call that ends as it is half-closed. And where
a message can't be sent since its call has ended, gRPC gives that call an error of its own, ``INTERNAL``, until the
status has come; so an attempt's end is what waiting for its response says.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio

from trimtab.client.aio_attempts import Declared, Run
from trimtab.client.aio_recorded_requests import RecordedRequests
from trimtab.client.aio_stream_attempts import StreamRun, too_late
from trimtab.client.attempts import Visit

_CANCELLED = "Locally cancelled by application!"  # as gRPC says


class RetryingRequests(Declared, grpc.aio.StreamUnaryClientInterceptor):
    """See ``attempt.Course`` for the rules."""

    async def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        """The call, whose attempts are under way."""
        run = self.run_of(
            _RequestsRun, continuation, client_call_details, request_iterator, overlap=False
        )
        if run is None:
            return await continuation(client_call_details, request_iterator)
        run.record(self._attempts.buffer_bytes)
        return AttemptedRequests(run, self.ended_call(run, client_call_details.method))


class RetryingExchanges(Declared, grpc.aio.StreamStreamClientInterceptor):
    """See ``attempt.Course`` for the rules."""

    async def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        """The call, whose attempts are under way."""
        run = self.run_of(
            _ExchangeRun, continuation, client_call_details, request_iterator, overlap=False
        )
        if run is None:
            return await continuation(client_call_details, request_iterator)
        run.record(self._attempts.buffer_bytes)
        return AttemptedExchange(run, self.opened_call(run, client_call_details.method))


class _RecordedRun(Run):
    """Like its base; an attempt's own time is that until there can be no other one.

    Attributes:
        requests: what attempts send.
        call: the attempt that is under way; None: none is.
        change: done when that has changed.
    """

    requests: RecordedRequests

    def record(self, limit: int) -> None:
        """Keep what is sent, up to so many bytes."""
        self.requests = RecordedRequests(self._request, limit)
        self.state.recording = self.requests.recording
        self.call: Any = None
        self._loop = asyncio.get_running_loop()
        self.change: asyncio.Future[None] = self._loop.create_future()
        self._over = False

    def _now(self, call: Any) -> None:
        self.call = call
        change, self.change = self.change, self._loop.create_future()
        change.set_result(None)

    def over(self, call: Any) -> None:
        """There is no other attempt; ``call`` is the caller's, or None.

        What would keep the caller's object alive is let go: gRPC's chain of interceptors holds it.
        """
        self._continuation = None
        self._over = True
        self.requests.recording.commit()
        if call is None or call.done():
            self.requests.over()

    async def sent(self, visit: Visit, limit_s: float | None) -> Any:
        """See the base; it is fed from the first message on."""
        self._request = None
        call = await super().sent(visit, limit_s)
        feeding = asyncio.Task(self._feed(call))

        def ended(_call: Any) -> None:
            feeding.cancel()
            if self._over:
                self.requests.over()

        call.add_done_callback(ended)
        self._now(call)
        return call

    async def _feed(self, call: Any) -> None:
        requests = self.requests
        try:
            # What is raised is the caller's iterator's, or says that the call has ended: its status says why.
            with suppress(Exception):
                async for message in requests.attempt():
                    await call.write(message)
                await call.done_writing()
        finally:
            if requests.recording.broken:
                call.cancel()  # as gRPC does

    async def attempt(self, visit: Visit) -> Any:
        """See the base."""
        limit = self.state.course.first_message_s
        try:
            if limit is None:
                return await self.answered(visit)
            answered = asyncio.Task(self.answered(visit))
            try:
                await asyncio.wait([answered], timeout=limit)
                if answered.done() or self.state.committed:
                    return await answered
            finally:
                answered.cancel()
            await asyncio.wait([answered])
            if not answered.cancelled():
                answered.exception()  # looked at: nobody waits for it any more
            raise too_late(limit)
        finally:
            self._now(None)

    async def answered(self, visit: Visit) -> Any:
        """A call that has ended, or has its first message."""
        raise NotImplementedError


class _RequestsRun(_RecordedRun):
    async def answered(self, visit: Visit) -> Any:
        call = None
        try:
            call = await self.sent(visit, self.state.course.left(self.clock()))
            # Not for its code, which may be gRPC's word for a message that could not be sent.
            await call
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                if call is not None:
                    call.cancel()
                raise
        return call  # cancelled by ``_feed`` or with its channel, if it is


class _ExchangeRun(_RecordedRun, StreamRun):
    async def answered(self, visit: Visit) -> Any:
        return await self.opened(visit)


class _Attempted:
    """What its caller has in hand while attempts are made, and after.

    Args:
        run: makes them.
        to_its_end: gives the one that is the caller's.
    """

    _channel = None  # releases of gRPC that close by looking at all tasks ask whose each call is

    def __init__(self, run: _RecordedRun, to_its_end: Coroutine[Any, Any, Any]) -> None:
        self._run = run
        self._settled: asyncio.Future[Any] = asyncio.Task(to_its_end)
        self._settled.add_done_callback(self._note)

    def _note(self, settled: asyncio.Future[Any]) -> None:
        self._run.over(self._call())
        if settled.cancelled():
            self._run.requests.stop()

    def _call(self) -> Any:
        """The one that is the caller's; None: not yet, or there is none."""
        settled = self._settled
        ended = not settled.done() or settled.cancelled() or settled.exception() is not None
        return None if ended else settled.result()

    @property
    def _done_writing_flag(self) -> bool:
        """Whether there are no more messages; gRPC asks when one is written."""
        return self._run.requests.recording.ended

    def cancel(self) -> bool:
        """End it and its attempts; False if it has ended already."""
        if not self._settled.done():
            return self._settled.cancel()
        call = self._call()
        cancelled = call is not None and bool(call.cancel())
        if cancelled:
            self._run.requests.stop()
        return cancelled

    def cancelled(self) -> bool:
        """Whether ``cancel`` ended it."""
        call = self._call()
        return self._settled.cancelled() if call is None else bool(call.cancelled())

    def done(self) -> bool:
        """Whether it has ended."""
        call = self._call()
        return self._settled.done() if call is None else bool(call.done())

    def time_remaining(self) -> float | None:
        """What is left of its time [s]; None for no limit."""
        return self._run.state.course.left(self._run.clock())

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call ``callback`` with this object when it has ended."""

        def settled(_settled: object) -> None:
            call = self._call()
            if call is None or call.done():
                callback(self)
            else:
                call.add_done_callback(lambda _call: callback(self))

        if self._settled.done():
            settled(None)
        else:
            self._settled.add_done_callback(settled)

    async def _of_call(self, ask: str, otherwise: str, cancelled: Any) -> Any:
        """What the caller's attempt says when asked; ``otherwise`` asks the error of one that was not made."""
        try:
            call = await asyncio.shield(self._settled)
        except grpc.aio.AioRpcError as error:
            return getattr(error, otherwise)()
        except asyncio.CancelledError:
            if self._settled.cancelled():
                return cancelled
            raise
        return await getattr(call, ask)()

    async def _of_attempt(self, ask: str) -> Any:
        """What an attempt that goes on says, when it does; None: none went on."""
        run, settled = self._run, self._settled
        while not settled.done():
            call = run.call
            if call is None or call.done():
                await asyncio.wait([run.change, settled], return_when=asyncio.FIRST_COMPLETED)
                continue
            try:
                found = await getattr(call, ask)()
            except grpc.aio.AioRpcError:
                continue
            if not call.done() and call is run.call:
                return (found,)
        return None

    async def initial_metadata(self) -> Any:
        """Of the first attempt that has them, which is the last one then."""
        found = await self._of_attempt("initial_metadata")
        if found is not None:
            self._run.state.commit()
            return found[0]
        return await self._of_call("initial_metadata", "initial_metadata", None)

    async def wait_for_connection(self) -> None:
        """An attempt is connected."""
        if await self._of_attempt("wait_for_connection") is None:
            await (await asyncio.shield(self._settled)).wait_for_connection()

    async def trailing_metadata(self) -> Any:
        """Waits for the end."""
        return await self._of_call("trailing_metadata", "trailing_metadata", None)

    async def code(self) -> grpc.StatusCode:
        """The status; waits for the end."""
        code: grpc.StatusCode = await self._of_call("code", "code", grpc.StatusCode.CANCELLED)
        return code

    async def details(self) -> str:
        """The status text; waits for the end."""
        details: str = await self._of_call("details", "details", _CANCELLED)
        return details

    async def debug_error_string(self) -> str:
        """The description of the error; waits for the end."""
        text: str = await self._of_call("debug_error_string", "debug_error_string", "")
        return text

    async def write(self, request: Any) -> None:
        """Never asked: gRPC's intercepted calls make an iterator of what is written."""
        raise NotImplementedError

    async def done_writing(self) -> None:
        """Never asked, likewise."""
        raise NotImplementedError


class AttemptedRequests(_Attempted, grpc.aio.StreamUnaryCall):  # type: ignore[type-arg]  # generic in stubs only
    """See ``grpc.aio.StreamUnaryCall``."""

    def __await__(self) -> Generator[Any, None, Any]:
        call = yield from self._settled.__await__()
        return (yield from call.__await__())


class AttemptedExchange(_Attempted, grpc.aio.StreamStreamCall):  # type: ignore[type-arg]  # generic in stubs only
    """See ``grpc.aio.StreamStreamCall``."""

    _messages: AsyncIterator[Any] | None = None

    async def _all(self) -> AsyncIterator[Any]:
        async for message in await self._settled:
            yield message

    def __aiter__(self) -> AsyncIterator[Any]:
        if self._messages is None:
            self._messages = self._all()
        return self._messages

    async def read(self) -> Any:
        """The next message, or ``grpc.aio.EOF``."""
        return await anext(self.__aiter__(), grpc.aio.EOF)
