"""Further attempts of asyncio calls whose response is a stream: until its first message, never after.

An attempt is held until its first message; that one wins, and its call is the caller's from there on.
Until then gRPC's chain of interceptors holds the caller's object, so one that he drops is cancelled when
the first message comes. Where the request is a stream, too, see ``aio_request_attempts``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio

from trimtab.attempt import Verdict
from trimtab.client.aio_attempts import Declared, Run
from trimtab.client.aio_now import now_of
from trimtab.client.attempts import Visit
from trimtab.client.observing import End

_NOTHING: Any = object()  # in place of the first message of a stream that has none


class RetryingStreams(Declared, grpc.aio.UnaryStreamClientInterceptor):
    """See ``attempt.Course`` for the rules."""

    async def intercept_unary_stream(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        """Make attempts until one has its first message, or is the request's end."""
        run = self.run_of(StreamRun, continuation, client_call_details, request)
        if run is None:
            return await continuation(client_call_details, request)
        return await self.opened_call(run, client_call_details.method)


class StreamRun(Run):
    """Like its base; an attempt has ended for it when its first message is there."""

    async def attempt(self, visit: Visit) -> OpenedStream:
        """Raises ``AioRpcError`` if there was neither a message nor a good end."""
        limit = self.state.course.first_message_s
        try:
            async with asyncio.timeout(limit):
                return await self.opened(visit)
        except TimeoutError:
            raise too_late(limit) from None

    async def opened(self, visit: Visit) -> OpenedStream:
        """The same, without a time of its own."""
        call = None
        try:
            call = await self.sent(visit, self.state.course.left(self.clock()))
            messages = call.__aiter__()
            return OpenedStream(call, await anext(messages, _NOTHING), messages)
        except asyncio.CancelledError:
            if call is not None:
                call.cancel()
            raise

    async def verdict(self, call: Any, error: BaseException | None, visit: Visit) -> Verdict:
        """The first one that is open is the caller's."""
        if error is not None:
            return await super().verdict(call, error, visit)
        self.state.opened(self.clock())
        return Verdict.FINAL


def too_late(limit_s: float | None) -> grpc.aio.AioRpcError:
    """The end of an attempt whose own time was up."""
    return grpc.aio.AioRpcError(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(),
        f"no message within the attempt's {limit_s} s",
    )


class OpenedStream(grpc.aio.UnaryStreamCall):  # type: ignore[type-arg]  # generic in stubs only
    """A call whose first message has been read, for somebody who has read none.

    Args:
        call: gRPC's own.
        first: its first message.
        rest: the others.

    Attributes:
        end: to be told the status, once; None: nobody asks.
    """

    end: End | None = None
    _channel = None  # releases of gRPC that close by looking at all tasks ask whose each call is

    def __init__(self, call: Any, first: Any, rest: AsyncIterator[Any]) -> None:
        self._call = call
        self._first = first
        self._rest = rest
        self._messages: AsyncIterator[Any] | None = None
        self._loop = asyncio.get_running_loop()

    def __del__(self) -> None:
        call, (end, self.end) = self._call, (self.end, None)
        if end is not None or not call.done():
            self._soon(_drop, call, end)

    async def _all(self) -> AsyncIterator[Any]:
        first, self._first = self._first, _NOTHING
        try:
            if first is not _NOTHING:
                yield first
            async for message in self._rest:
                yield message
        except grpc.aio.AioRpcError as error:
            self._tell(error.code().name)
            raise
        self._tell("OK")

    def _tell(self, status: str) -> None:
        end, self.end = self.end, None
        if end is not None:
            end(status)

    def _soon(self, step: Callable[..., object], *args: Any) -> None:
        """Take a step on the loop: what is garbage is dropped in any thread, in the middle of anything."""
        with suppress(RuntimeError):  # it was closed
            self._loop.call_soon_threadsafe(step, *args)

    def __aiter__(self) -> AsyncIterator[Any]:
        if self._messages is None:
            self._messages = self._all()
        return self._messages

    async def read(self) -> Any:
        """The next message, or ``grpc.aio.EOF``."""
        return await anext(self.__aiter__(), grpc.aio.EOF)

    def cancel(self) -> bool:
        """End it; False if it has ended already."""
        cancelled: bool = self._call.cancel()
        if cancelled and self.end is not None:  # perhaps by gRPC, for a call that is garbage
            self._soon(self._tell, "CANCELLED")
        return cancelled

    def cancelled(self) -> bool:
        """Whether ``cancel`` ended it."""
        return bool(self._call.cancelled())

    def done(self) -> bool:
        """Whether it has ended."""
        return bool(self._call.done())

    def time_remaining(self) -> float | None:
        """What is left of its time [s]; None for no limit."""
        left: float | None = self._call.time_remaining()
        return left

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call ``callback`` with this object when it has ended."""
        self._call.add_done_callback(lambda _call: callback(self))

    async def initial_metadata(self) -> Any:
        """Of the attempt that was taken."""
        return await self._call.initial_metadata()

    async def trailing_metadata(self) -> Any:
        """Waits for the end."""
        return await self._call.trailing_metadata()

    async def code(self) -> grpc.StatusCode:
        """The status; waits for the end."""
        code: grpc.StatusCode = await self._call.code()
        self._tell(code.name)
        return code

    async def details(self) -> str:
        """The status text; waits for the end."""
        details: str = await self._call.details()
        return details

    async def debug_error_string(self) -> str:
        """The description of the error; waits for the end."""
        text: str = await self._call.debug_error_string()
        return text

    async def wait_for_connection(self) -> None:
        """It is connected."""
        await self._call.wait_for_connection()


def _drop(call: Any, end: End | None) -> None:
    """Nobody has the call any more."""
    cancelled = call.cancel()
    if end is not None:
        # Else it ended without anybody reading so far.
        code = None if cancelled else now_of(call.code())
        end("CANCELLED" if code is None else code.name)
