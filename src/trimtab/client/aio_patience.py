"""Asyncio calls that wait for ready pass through all interceptors, so that they wait above the pick.

Those with one request and one response do so only where they have no choice of endpoints: it costs more than all else of theirs.

Such a call leaves again whenever it reached nobody, for as long as it may; in an endpoint's own channel it would wait
for an endpoint that may be dead (as it does where that has a host name, see ``Link.by_name``). One with one request and one response begins in ``aio_unsent``.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

_native: Any = importlib.import_module("grpc.aio._channel")
_UnaryStream: Any = getattr(_native, "UnaryStreamMultiCallable", object)
_StreamUnary: Any = getattr(_native, "StreamUnaryMultiCallable", object)
_StreamStream: Any = getattr(_native, "StreamStreamMultiCallable", object)
_PLACE = 4  # of ``wait_for_ready`` among a multicallable's arguments


def missing_in_streams() -> str:
    """The first of gRPC's multicallables that could not become ours; "" if all can."""
    for kind in (UnaryStreamCalls, StreamUnaryCalls, StreamStreamCalls):
        base = kind.__base__
        if base is object or kind.__basicsize__ != base.__basicsize__:
            return f"grpc.aio._channel.{kind.__name__}"
    return ""


def waits_for_ready(given: Sequence[Any], more: Mapping[str, Any]) -> bool:
    """Whether the arguments of a multicallable say so; ``given`` may be all of a stream's."""
    return bool(more.get("wait_for_ready") or (len(given) > _PLACE and given[_PLACE]))


@contextmanager
def patiently(calls: Any) -> Iterator[None]:
    """A call of this multicallable that begins within passes through all interceptors, since it waits for ready."""
    kept, calls._interceptors = calls._interceptors, calls.again  # noqa: SLF001 - the hook
    try:
        yield
    finally:
        calls._interceptors = kept  # noqa: SLF001 - likewise


def _begun(begin: Any, calls: Any, given: tuple[Any, ...], more: dict[str, Any]) -> Any:
    """A call of ``calls``, which ``begin`` begins."""
    with patiently(calls) if waits_for_ready(given, more) else nullcontext():
        return begin(*given, **more)


class UnaryStreamCalls(_UnaryStream):  # type: ignore[misc]  # gRPC has no types here
    """See ``grpc.aio.UnaryStreamMultiCallable``."""

    def __call__(self, *given: Any, **more: Any) -> Any:
        """Begin a call."""
        return _begun(super().__call__, self, given, more)


class StreamUnaryCalls(_StreamUnary):  # type: ignore[misc]  # as above
    """See ``grpc.aio.StreamUnaryMultiCallable``."""

    def __call__(self, *given: Any, **more: Any) -> Any:
        """Begin a call."""
        return _begun(super().__call__, self, given, more)


class StreamStreamCalls(_StreamStream):  # type: ignore[misc]  # as above
    """See ``grpc.aio.StreamStreamMultiCallable``."""

    def __call__(self, *given: Any, **more: Any) -> Any:
        """Begin a call."""
        return _begun(super().__call__, self, given, more)
