"""What a server measures of itself, for its load reports. Pure: times are arguments.

The same object runs in the interceptors and in the simulator.
"""

from __future__ import annotations

from collections import deque
from statistics import median

from trimtab.load_report import LoadReport

_KEPT = 64  # samples kept
_NEAR = 9  # samples that an estimate is the median of
_FRESH = 8  # new samples after which estimates are made anew


class LoadMeter:
    """Counts what is in flight and estimates what the next request would take.

    The latency estimate is the median of nine of the last 64 samples: those that met a number of
    requests in flight nearest to what the next one would meet, newer ones first (Prequal's servers
    do the same: Wydrowski et al., NSDI 2024, section 4).

    Attributes:
        in_flight: requests that are here now.
    """

    __slots__ = ("_estimates", "_new", "_samples", "in_flight")

    def __init__(self) -> None:
        self.in_flight = 0
        self._samples: deque[tuple[int, float]] = deque(maxlen=_KEPT)
        self._estimates: dict[int, float] = {}
        self._new = 0

    def begin(self) -> int:
        """A request came. Returns what it found, which ``end`` wants back."""
        found = self.in_flight
        self.in_flight = found + 1
        return found

    def end(self, found: int, seconds: float, *, counts: bool = True) -> None:
        """It is done, after so many seconds; one that failed doesn't count as a sample."""
        self.in_flight -= 1
        if counts:
            self._samples.append((found, seconds))
            self._new += 1
            if self._new >= _FRESH:
                self._new = 0
                self._estimates.clear()

    @property
    def latency(self) -> float | None:
        """What a request that came now would take [s]; None before the first sample."""
        found = self.in_flight
        known = self._estimates.get(found)
        if known is None and self._samples:
            newest_first = list(reversed(self._samples))  # the sort keeps their order
            near = sorted(newest_first, key=lambda sample: abs(sample[0] - found))[:_NEAR]
            known = self._estimates[found] = median(seconds for _, seconds in near)
        return known

    def report(self) -> LoadReport:
        """To be sent with a response, after ``end``."""
        return LoadReport(in_flight=self.in_flight, latency=self.latency)
