"""Load reports from a ``grpc.server``: the interceptor for threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import grpc

from trimtab.server.costs import collect_costs
from trimtab.server.handlers import (
    Handler,
    WrappedHandlers,
    failed,
    probe_in_thread,
    with_report,
)
from trimtab.server.server_load import ServerLoad


class LoadReports(grpc.ServerInterceptor):
    """Says the server's load with each response, in the trailing metadata.

    ``grpc.server(pool, interceptors=[LoadReports()])``. Handlers keep their own trailing metadata;
    one that sends a report of its own is left alone. Failed and aborted calls report too. Put it
    first: what comes before it is not counted. Clients can also ask for the load (``load_codec.PROBE``).

    Args:
        load: what to say; several servers of one process share one.
        costs: say what each request cost, as its handler records it with ``record_cost``.
    """

    def __init__(self, load: ServerLoad | None = None, *, costs: bool = False) -> None:
        self.load = load or ServerLoad()
        self._costs = costs
        self._handlers = WrappedHandlers(self._wrap, probe_in_thread(self.load))

    def intercept_service(
        self, continuation: Callable[[Any], Handler], handler_call_details: Any
    ) -> Handler:
        """Called by gRPC."""
        handler = continuation(handler_call_details)
        return self._handlers.wrapped(handler_call_details.method, handler)

    def _wrap(self, behavior: Any, handler: Handler) -> Any:
        if getattr(behavior, "experimental_non_blocking", False):
            return behavior  # it answers through a callback, when it likes
        if handler.response_streaming:
            return self._streaming(behavior)
        return self._unary(behavior)

    def _unary(self, behavior: Any) -> Any:
        load, clock = self.load, self.load.clock

        @wraps(behavior)
        def reporting(request: Any, context: Any) -> Any:
            costs = collect_costs() if self._costs else None
            begun = clock()
            found = load.begin()
            raised = True
            try:
                response = behavior(request, context)
                raised = False
                return response
            finally:
                fault = failed(context.code(), raised=raised)
                said = load.end(found, clock() - begun, failed=fault)
                trailing = with_report(said, context.trailing_metadata() or (), costs)
                context.set_trailing_metadata(trailing)

        return reporting

    def _streaming(self, behavior: Any) -> Any:
        load = self.load

        @wraps(behavior)
        def reporting(request: Any, context: Any) -> Iterator[Any]:
            costs = collect_costs() if self._costs else None
            found = load.begin()

            def end(*, raised: bool) -> None:
                said = load.end(found, None, failed=failed(context.code(), raised=raised))
                trailing = with_report(said, context.trailing_metadata() or (), costs)
                context.set_trailing_metadata(trailing)

            try:
                yield from behavior(request, context)
            except GeneratorExit:  # the caller went
                load.give_up(found, failed=failed(context.code(), raised=False))
                raise
            except BaseException:
                end(raised=True)
                raise
            end(raised=False)

        return reporting
