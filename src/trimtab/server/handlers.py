"""What the interceptors for threads and for asyncio have in common: which calls, and how they end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import grpc

from trimtab.attempt import outcome_of_grpc
from trimtab.load_codec import BINARY_HEADER, PROBE, encode_answer
from trimtab.policies import Outcome
from trimtab.server.orca import encode_costs
from trimtab.server.server_load import Said, ServerLoad

# Conversations about the server, not work of it.
_NOT_COUNTED = ("/grpc.health.", "/grpc.reflection.", "/xds.service.orca.")
_MOST_KEPT = 1000  # methods; a server that takes any name must not fill the memory

_OWN_FAULT = {Outcome.FAILURE, Outcome.OVERLOADED, Outcome.TIMEOUT}
_FAILED: frozenset[object] = frozenset(
    name
    for code in grpc.StatusCode
    if outcome_of_grpc(code.value[0]) in _OWN_FAULT
    for name in (code, code.value[0])
)

Metadata = tuple[tuple[str, str | bytes], ...]
Handler = Any  # grpc.RpcMethodHandler; its fields are untyped


def failed(code: object, *, raised: bool) -> bool:
    """Whether a call that ended with this status (None: not set) failed by the server's fault."""
    if code is None:
        return raised
    return code in _FAILED


def with_report(said: Said, own: Metadata, costs: Mapping[str, float] | None) -> Metadata:
    """A call's trailing metadata: its own, then the report, unless its own has one."""
    if not own and not costs:
        return said.trailers
    trailers: Metadata = said.trailers
    if costs:
        trailers = (trailers[0], (BINARY_HEADER, said.binary + encode_costs(costs)))
    if any(key == BINARY_HEADER for key, _ in own):
        return own
    return (*own, *trailers)


def probe_in_thread(load: ServerLoad) -> Handler:
    """What answers ``PROBE`` in a ``grpc.server``."""

    def answer(_request: bytes, _context: Any) -> bytes:
        return encode_answer(load.report().text)

    return grpc.unary_unary_rpc_method_handler(answer)


def probe_on_loop(load: ServerLoad) -> Handler:
    """What answers ``PROBE`` in a ``grpc.aio.server``."""

    async def answer(_request: bytes, _context: Any) -> bytes:
        return encode_answer(load.report().text)

    return grpc.unary_unary_rpc_method_handler(cast("Any", answer))


class WrappedHandlers:
    """The handlers that were wrapped, by method: gRPC looks one up for each call.

    Args:
        wrap: takes a handler's function and the handler and returns the function to call.
        probe: answers ``PROBE`` where the server itself has no such method.
    """

    def __init__(self, wrap: Callable[[Any, Handler], Any], probe: Handler) -> None:
        self._wrap = wrap
        self._probe = probe
        self._kept: dict[str, tuple[Handler, Handler]] = {}

    def wrapped(self, method: str, handler: Handler | None) -> Handler | None:
        """The handler to use instead of ``handler``."""
        kept = self._kept.get(method)
        if kept is not None and kept[0] is handler:
            return kept[1]
        if handler is None:
            return self._probe if method == PROBE else None
        if method.startswith(_NOT_COUNTED):
            return handler
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        made = self._make(handler)
        self._kept[method] = (handler, made)
        return made

    def _make(self, handler: Handler) -> Handler:
        shape = (
            f"{'stream' if handler.request_streaming else 'unary'}_"
            f"{'stream' if handler.response_streaming else 'unary'}"
        )
        make = cast("Callable[..., Handler]", getattr(grpc, f"{shape}_rpc_method_handler"))
        behavior = self._wrap(getattr(handler, shape), handler)
        return make(behavior, handler.request_deserializer, handler.response_serializer)
