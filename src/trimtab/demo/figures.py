"""From single requests to the figures of a mode. Pure.

    max_over_mean = max_i n_i / mean(n)         n_i: requests that reached server i
    cv            = stddev(n) / mean(n)         population standard deviation; 0 is perfectly even
    percentile q  = the ceil(q * N)-th smallest (nearest rank), so always a latency that occurred

Latency runs from a request's *scheduled* arrival, so a stalled client can't hide what its users
would have waited ("coordinated omission", G. Tene). A failed request counts with the time until it
failed, else failing early would look quick.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

ENOUGH_FOR_P999 = 10_000  # below that, fewer than ten requests stand beyond it


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """One mode's figures over the measured window.

    Attributes:
        max_over_mean: see the module; over all servers, None if no request reached any.
        cv: see the module, likewise.
        p50_ms: median latency; None without requests, as for the other percentiles.
        p90_ms: likewise.
        p99_ms: likewise.
        p999_ms: None below ``ENOUGH_FOR_P999`` requests.
        error_rate: failed requests by all requests, 0 to 1.
        requests: how many were sent.
        requests_per_server: how many reached each server, counted there.
    """

    max_over_mean: float | None
    cv: float | None
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    error_rate: float
    requests: int
    requests_per_server: tuple[int, ...]


def figures(latencies_s: Sequence[float], failed: int, per_server: Sequence[int]) -> Figures:
    """Sum up one window.

    Args:
        latencies_s: seconds, one per request, failed ones included.
        failed: how many of them failed.
        per_server: requests that reached each server.
    """
    ordered = sorted(latencies_s)
    count = len(ordered)
    return Figures(
        max_over_mean=_rounded(max_over_mean(per_server)),
        cv=_rounded(variation(per_server)),
        p50_ms=_milliseconds(ordered, 0.50),
        p90_ms=_milliseconds(ordered, 0.90),
        p99_ms=_milliseconds(ordered, 0.99),
        p999_ms=_milliseconds(ordered, 0.999) if count >= ENOUGH_FOR_P999 else None,
        error_rate=round(failed / count, 5) if count else 0.0,
        requests=count,
        requests_per_server=tuple(per_server),
    )


def max_over_mean(counts: Sequence[int]) -> float | None:
    """1 is perfectly even, ``len(counts)`` means that one server got everything."""
    total = sum(counts)
    return max(counts) * len(counts) / total if total else None


def variation(counts: Sequence[int]) -> float | None:
    """The coefficient of variation."""
    total = sum(counts)
    if not total:
        return None
    mean = total / len(counts)
    return math.sqrt(sum((n - mean) ** 2 for n in counts) / len(counts)) / mean


def percentile(ordered: Sequence[float], q: float) -> float | None:
    """The nearest-rank percentile of an ascending sequence, 0 < q <= 1; None if it is empty."""
    if not ordered:
        return None
    # A product such as 0.07 * 100 lies a hair above its integer; that must not raise the rank.
    return ordered[max(0, math.ceil(q * len(ordered) - 1e-9) - 1)]


def _milliseconds(ordered: Sequence[float], q: float) -> float | None:
    value = percentile(ordered, q)
    return None if value is None else round(value * 1e3, 2)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


class Slot(msgspec.Struct, frozen=True):
    """A stretch of a phase, for the picture of latency over time.

    Attributes:
        at_s: its middle, in seconds from the phase's start.
        p50_ms: median latency of the requests that were due in it.
        p99_ms: 99th percentile.
        failed: how many of them failed.
    """

    at_s: float
    p50_ms: float
    p99_ms: float
    failed: int


def timeline(
    requests: Sequence[tuple[float, float, bool]], phase_s: float, width_s: float
) -> tuple[Slot, ...]:
    """Latency over time. ``requests``: (due [s], latency [s], failed) in any order."""
    slots: dict[int, list[tuple[float, bool]]] = {}
    for due, latency, failed in requests:
        slots.setdefault(min(int(due / width_s), math.ceil(phase_s / width_s) - 1), []).append(
            (latency, failed)
        )
    found: list[Slot] = []
    for index in sorted(slots):
        ordered = sorted(latency for latency, _ in slots[index])
        found.append(
            Slot(
                at_s=round((index + 0.5) * width_s, 3),
                p50_ms=_milliseconds(ordered, 0.5) or 0.0,
                p99_ms=_milliseconds(ordered, 0.99) or 0.0,
                failed=sum(failed for _, failed in slots[index]),
            )
        )
    return tuple(found)
