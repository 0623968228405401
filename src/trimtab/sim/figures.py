"""What a run comes to: quantiles, errors, evenness, and how they went over time."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from trimtab.sim.engine import Tally

SLOTS = 40  # points of a line over time
AFTER_S = 2.0  # "shortly after an event"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One run of one policy. Latencies in milliseconds; None where nothing was answered.

    Attributes:
        requests: that ended and began after the warm-up.
        mean_ms, p50_ms, p90_ms, p99_ms, p999_ms: of the answered ones.
        error_rate: the part that failed.
        error_rate_after: the same of those that began within 2 s after an event; None: no event.
        p99_after_ms: p99 of those.
        max_over_mean: the most requests of a pod over the mean.
        utilisation: busy workers over workers.
        crossed: the part that went to another zone.
        probes: for each request.
        speed: simulated requests for each second of real time.
        timeline: begin of a slot [s], p99 [ms] in it.
        picks: requests of each pod, sorted by address.
    """

    requests: int
    mean_ms: float | None
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    error_rate: float
    error_rate_after: float | None
    p99_after_ms: float | None
    max_over_mean: float
    utilisation: float
    crossed: float
    probes: float
    speed: float
    timeline: tuple[tuple[float, float], ...]
    picks: tuple[int, ...]


def quantile(ordered: Sequence[float], part: float) -> float | None:
    """The nearest rank; None of nothing."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def figures(
    tally: Tally,
    *,
    begin_s: float,
    end_s: float,
    moments: Sequence[float],
    pods: Sequence[str],
    utilisation: float,
    speed: float,
) -> Figures:
    """Sum up.

    Args:
        tally: what was seen.
        begin_s: when the warm-up ended.
        end_s: when requests ceased to come.
        moments: of events, ascending.
        pods: the addresses of all.
        utilisation: over that time.
        speed: simulated requests for each second of real time.
    """
    ordered = sorted(tally.latencies)
    near = [
        latency
        for latency, begun in zip(tally.latencies, tally.begun, strict=True)
        if _after(begun, moments)
    ]
    failed_near = sum(_after(begun, moments) for begun in tally.failures)
    picks = tuple(tally.picks.get(pod, 0) for pod in pods)
    sent = sum(picks)
    return Figures(
        requests=tally.requests,
        mean_ms=_ms(math.fsum(ordered) / len(ordered) if ordered else None),
        p50_ms=_ms(quantile(ordered, 0.5)),
        p90_ms=_ms(quantile(ordered, 0.9)),
        p99_ms=_ms(quantile(ordered, 0.99)),
        p999_ms=_ms(quantile(ordered, 0.999)),
        error_rate=len(tally.failures) / tally.requests if tally.requests else 0.0,
        error_rate_after=(failed_near / (len(near) + failed_near) if near or failed_near else None),
        p99_after_ms=_ms(quantile(sorted(near), 0.99)),
        max_over_mean=max(picks) * len(picks) / sent if sent else 0.0,
        utilisation=utilisation,
        crossed=tally.crossed / sent if sent else 0.0,
        probes=tally.probes / tally.requests if tally.requests else 0.0,
        speed=speed,
        timeline=_timeline(tally, begin_s, end_s),
        picks=picks,
    )


def _after(begun: float, moments: Sequence[float]) -> bool:
    i = bisect_right(moments, begun)
    return i > 0 and begun < moments[i - 1] + AFTER_S


def _timeline(tally: Tally, begin_s: float, end_s: float) -> tuple[tuple[float, float], ...]:
    width = (end_s - begin_s) / SLOTS
    slots: list[list[float]] = [[] for _ in range(SLOTS)]
    for begun, latency in zip(tally.begun, tally.latencies, strict=True):
        slots[min(SLOTS - 1, int((begun - begin_s) / width))].append(latency)
    found = []
    for i, slot in enumerate(slots):
        p99 = quantile(sorted(slot), 0.99)
        if p99 is not None:
            found.append((begin_s + i * width, p99 * 1000.0))
    return tuple(found)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000.0
