"""The latency below which a given part of recent requests ends: when to hedge."""

from __future__ import annotations

import math

_LEAST_S = 1e-4
_STEP = 1.05
_BUCKETS = 284  # up to 100 s
_LOG_STEP = math.log(_STEP)


class LatencyQuantile:
    """A histogram with steps of 5 %; old requests count half as much after ``window`` new ones.

    A request that was hedged is recorded with the time until its answer, whoever gave it. That is
    too short for the first attempt and still above the quantile, so the quantile is right.

    Args:
        quantile: above 0, below 1.
        least: samples before there is an answer.
        window: samples after which counts are halved.
    """

    __slots__ = ("_answer", "_counts", "_fresh", "_least", "_total", "_window", "quantile")

    def __init__(self, quantile: float, least: int = 100, window: int = 2000) -> None:
        self.quantile = quantile
        self._least = least
        self._window = window
        self._counts = [0.0] * _BUCKETS
        self._total = 0.0
        self._fresh = 0
        self._answer: float | None = None

    def record(self, seconds: float) -> None:
        """A request took this long."""
        place = int(math.log(max(seconds, _LEAST_S) / _LEAST_S) / _LOG_STEP)
        self._counts[min(place, _BUCKETS - 1)] += 1.0
        self._total += 1.0
        self._fresh += 1
        if self._total >= self._window:
            self._counts = [count / 2 for count in self._counts]
            self._total = sum(self._counts)
        if self._fresh >= self._least // 4:
            self._fresh = 0
            self._answer = self._look() if self._total >= self._least else None

    def seconds(self) -> float | None:
        """The quantile [s], the upper edge of its step; None: too little is known."""
        return self._answer

    def _look(self) -> float:
        wanted = self.quantile * self._total
        seen = 0.0
        for place, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                return float(_LEAST_S * _STEP ** (place + 1))
        return float(_LEAST_S * _STEP**_BUCKETS)
