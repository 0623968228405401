"""Load reports from a ``grpc.aio.server``: the interceptor for asyncio."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from functools import wraps
from typing import Any, NoReturn

import grpc.aio

from trimtab.server.costs import collect_costs
from trimtab.server.handlers import (
    Handler,
    Metadata,
    WrappedHandlers,
    failed,
    probe_on_loop,
    with_report,
)
from trimtab.server.server_load import ServerLoad

__all__ = ["LoadReports"]


class LoadReports(grpc.aio.ServerInterceptor):
    """Says the server's load with each response, in the trailing metadata.

    ``grpc.aio.server(interceptors=[LoadReports()])``. Handlers keep their own trailing metadata;
    one that sends a report of its own is left alone. Failed and aborted calls report too. Put it
    first: what comes before it is not counted. Clients can also ask for the load (``load_codec.PROBE``).

    Args:
        load: what to say; several servers of one process share one.
        costs: say what each request cost, as its handler records it with ``record_cost``.
    """

    def __init__(self, load: ServerLoad | None = None, *, costs: bool = False) -> None:
        self.load = load or ServerLoad()
        self._costs = costs
        self._handlers = WrappedHandlers(self._wrap, probe_on_loop(self.load))

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Handler]], handler_call_details: Any
    ) -> Handler:
        """Called by gRPC."""
        handler = await continuation(handler_call_details)
        return self._handlers.wrapped(handler_call_details.method, handler)

    def _wrap(self, behavior: Any, handler: Handler) -> Any:
        # gRPC looks at the kind of function to decide how to run it: ours is of the same kind,
        # but for generators, since a coroutine hears at once when its call is cancelled.
        if inspect.isasyncgenfunction(behavior):
            return self._generating(behavior)
        if inspect.iscoroutinefunction(behavior):
            return self._coroutine(behavior, counts=not handler.response_streaming)
        if handler.response_streaming:
            return self._in_thread_streaming(behavior)
        return self._in_thread(behavior)

    def _coroutine(self, behavior: Any, *, counts: bool) -> Any:
        load, costs = self.load, self._costs

        @wraps(behavior)
        async def reporting(request: Any, context: Any) -> Any:
            call = _Call(load, context, counts, costs)
            try:
                response = await behavior(request, call)
            except BaseException as ended:
                call.finish(raised=ended)
                raise
            call.finish()
            return response

        return reporting

    def _generating(self, behavior: Any) -> Any:
        @wraps(behavior)
        async def reporting(request: Any, context: Any) -> None:
            call = _Call(self.load, context, False, self._costs)
            try:
                async with aclosing(behavior(request, call)) as messages:
                    async for message in messages:
                        await context.write(message)
            except BaseException as ended:
                call.finish(raised=ended)
                raise
            call.finish()

        return reporting

    def _in_thread(self, behavior: Any) -> Any:
        @wraps(behavior)
        def reporting(request: Any, context: Any) -> Any:
            call = _ThreadCall(self.load, context, True, self._costs)
            try:
                response = behavior(request, call)
            except BaseException as ended:
                call.finish(raised=ended)
                raise
            call.finish()
            return response

        return reporting

    def _in_thread_streaming(self, behavior: Any) -> Any:
        @wraps(behavior)
        def reporting(request: Any, context: Any) -> Iterator[Any]:
            # Called on the loop, in the call's own task; the messages are made in a thread.
            call = _ThreadStream(self.load, context, asyncio.current_task())
            return call.messages(behavior, request, costs=self._costs)

        return reporting


class _AnyCall:
    """The handler's context, which sees its call end; the rest goes to gRPC's own.

    gRPC's contexts can't be watched otherwise: ``abort`` sends the status before it raises.
    """

    __slots__ = ("_begun", "_context", "_costs", "_counts", "_found", "_load", "_open")

    def __init__(self, load: ServerLoad, context: Any, counts: bool, costs: bool) -> None:
        self._costs = collect_costs() if costs else None
        self._context = context
        self._counts = counts
        self._load = load
        self._open = True
        self._begun = load.clock()
        self._found = load.begin()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def _end(self, own: Metadata, code: object, ended: BaseException | None) -> Metadata:
        """The call's trailing metadata; its own if it ended before."""
        if not self._open:
            return own
        self._open = False
        # The caller went (asyncio's way, a generator's way): nobody's fault, and no sample.
        left = isinstance(ended, asyncio.CancelledError | GeneratorExit)
        fault = not left and failed(code, raised=ended is not None)
        load = self._load
        if isinstance(ended, GeneratorExit):
            load.give_up(self._found)  # nobody hears the report
            return own
        seconds = load.clock() - self._begun if self._counts and not left else None
        return with_report(load.end(self._found, seconds, failed=fault), own, self._costs)


class _Call(_AnyCall):
    """Of a handler on the loop."""

    __slots__ = ()

    def finish(self, *, raised: BaseException | None = None) -> None:
        """The handler ended."""
        if self._open:
            context = self._context
            own, code = context.trailing_metadata(), context.code()
            if raised is None and not own and not code and self._costs is None:
                # As most do; written out, since it is this that each call pays.
                self._open = False
                load = self._load
                said = load.end(self._found, load.clock() - self._begun if self._counts else None)
                context.set_trailing_metadata(said.trailers)
            else:
                context.set_trailing_metadata(self._end(own, code, raised))

    async def abort(
        self, code: Any, details: str = "", trailing_metadata: Metadata = ()
    ) -> NoReturn:
        own = tuple(trailing_metadata) or self._context.trailing_metadata()
        await self._context.abort(code, details, self._end(own, code, None))
        raise AssertionError("abort returned")

    async def abort_with_status(self, status: Any) -> NoReturn:
        await self.abort(status.code, status.details, status.trailing_metadata)


class _ThreadCall(_AnyCall):
    """Of a handler for threads in an asyncio server; its context can't be asked what was set."""

    __slots__ = ("_code", "_own")

    def __init__(self, load: ServerLoad, context: Any, counts: bool, costs: bool) -> None:
        super().__init__(load, context, counts, costs)
        self._own: Metadata = ()
        self._code: object = None

    def finish(self, *, raised: BaseException | None = None) -> None:
        """The handler ended."""
        if self._open:
            self._context.set_trailing_metadata(self._end(self._own, self._code, raised))

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        self._own = tuple(trailing_metadata)
        self._context.set_trailing_metadata(self._own)

    def set_code(self, code: Any) -> None:
        self._context.set_code(code)
        self._code = code

    def abort(self, code: Any, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        own = tuple(trailing_metadata) or self._own
        self._context.abort(code, details, self._end(own, code, None))
        raise AssertionError("abort returned")


class _ThreadStream(_ThreadCall):
    """Of one that answers by a stream. It ends with its call's task, even if its thread never does.

    gRPC lets a thread wait for ever that has a message for a call which was cancelled (grpc/grpc#28999).
    """

    __slots__ = ("_unended",)

    def __init__(self, load: ServerLoad, context: Any, task: asyncio.Task[Any] | None) -> None:
        super().__init__(load, context, False, False)
        # Who takes it ends the call. No lock: the task ends on the loop, the handler where its garbage is collected.
        self._unended = [True]
        if task is not None:
            task.add_done_callback(self._gone)

    def messages(self, behavior: Any, request: Any, *, costs: bool) -> Iterator[Any]:
        """The handler's, in its thread."""
        self._costs = collect_costs() if costs else None
        try:
            yield from behavior(request, self)
        except BaseException as ended:
            self.finish(raised=ended)
            raise
        self.finish()

    def _end(self, own: Metadata, code: object, ended: BaseException | None) -> Metadata:
        try:
            self._unended.pop()
        except IndexError:
            return own
        return super()._end(own, code, ended)

    def _gone(self, _task: asyncio.Task[Any]) -> None:
        self._end((), None, GeneratorExit())
