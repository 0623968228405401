"""What the end of one gRPC attempt means to a policy, and what its trailers say of another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import isfinite

from trimtab.load_codec import HEADER, decode
from trimtab.load_report import LoadReport
from trimtab.policies import Outcome

PUSHBACK = "grpc-retry-pushback-ms"  # gRFC A6
_LONGEST_PUSHBACK_MS = 2**31 - 1

# gRPC status codes by number (grpc/doc/statuscodes.md); numbers, since the core imports no gRPC.
_OK = 0
_CANCELLED = 1
_DEADLINE_EXCEEDED = 4
_RESOURCE_EXHAUSTED = 8
_FAILURES = frozenset({2, 13, 14, 15})
# With RESOURCE_EXHAUSTED, which is told apart: UNKNOWN, INTERNAL, UNAVAILABLE, DATA_LOSS: the classes that linkerd's load
# biaser counts against an endpoint. The rest (NOT_FOUND, PERMISSION_DENIED, ...) is an answer.


def outcome_of_grpc(code: int) -> Outcome:
    """Classify a gRPC status code (0 to 16; anything else counts as a failure)."""
    if code == _OK:
        return Outcome.SUCCESS
    if code == _CANCELLED:
        return Outcome.CANCELLED
    if code == _DEADLINE_EXCEEDED:
        return Outcome.TIMEOUT
    if code == _RESOURCE_EXHAUSTED:
        return Outcome.OVERLOADED
    if code in _FAILURES or not 0 <= code <= 16:  # noqa: PLR2004
        return Outcome.FAILURE
    return Outcome.ANSWERED


def report_of(trailing: Iterable[tuple[str, str | bytes]] | None) -> LoadReport | None:
    """What the server said of its load with an answer, pushback included; None if nothing.

    Args:
        trailing: gRPC's trailing metadata; keys are lower case.
    """
    found: LoadReport | None = None
    for key, value in trailing or ():
        if key == HEADER:
            found = decode(value)
        elif key == PUSHBACK:
            found = _with_pushback(found, value)
    return found


def pushback_of(trailing: Iterable[tuple[str, str | bytes]] | None) -> float | None:
    """When the server wants the next attempt [s from now]; -1: never; None: it does not say.

    gRFC A6: a negative or unreadable value means that there must be no retry. One that doesn't fit 32
    bits (24 days) counts as unreadable: clocks and timers can't wait for any number.
    """
    for key, value in trailing or ():
        if key == PUSHBACK:
            try:
                wait_ms = int(value)
            except ValueError:
                return -1.0
            return wait_ms / 1e3 if 0 <= wait_ms <= _LONGEST_PUSHBACK_MS else -1.0
    return None


def _with_pushback(report: LoadReport | None, value: str | bytes) -> LoadReport | None:
    try:
        seconds = float(value) / 1e3
    except ValueError:
        return report
    if not isfinite(seconds) or seconds <= 0.0:
        return report  # a negative one says "do not retry": see ``pushback_of``
    return replace(report or LoadReport(), retry_after=seconds)
