"""What a server measures of itself, for its load reports. Pure: times are arguments.

The same object runs in the interceptors and in the simulator.
"""

from __future__ import annotations

from trimtab.load_report import LoadReport

_KEPT = 64  # samples kept
_NEAR = 9  # samples that an estimate is the median of
_WALK = 16  # numbers in flight to either side that are looked at one by one
_FRESH = 8  # new samples after which estimates are made anew


class LoadMeter:
    """Counts what is in flight and estimates what the next request would take.

    The latency estimate is the median of nine of the last 64 samples: those that met a number of
    requests in flight nearest to what the next one would meet, newer ones first (Prequal's servers
    do the same: Wydrowski et al., NSDI 2024, section 4).

    Attributes:
        in_flight: requests that are here now.
    """

    __slots__ = ("_estimates", "_groups", "_met", "_number", "_seconds", "in_flight")

    def __init__(self) -> None:
        self.in_flight = 0
        # The last samples, in rings: what each met, and how long it took.
        self._met = [0] * _KEPT
        self._seconds = [0.0] * _KEPT
        self._number = 0
        # Of some moment within the last _FRESH samples.
        self._groups: dict[int, list[tuple[int, float]]] | None = None
        self._estimates: dict[int, float] = {}

    def begin(self) -> int:
        """A request came. Returns what it found, which ``end`` wants back."""
        found = self.in_flight
        self.in_flight = found + 1
        return found

    def end(self, found: int, seconds: float, *, counts: bool = True) -> None:
        """It is done, after so many seconds; one that failed doesn't count as a sample."""
        self.in_flight -= 1
        if counts:
            number = self._number
            self._met[number % _KEPT] = found
            self._seconds[number % _KEPT] = seconds
            self._number = number + 1
            if self._groups is not None and not self._number % _FRESH:
                self._groups = None
                self._estimates.clear()

    @property
    def latency(self) -> float | None:
        """What a request that came now would take [s]; None before the first sample."""
        found = self.in_flight
        known = self._estimates.get(found)
        if known is None and self._number:
            # A median of the nine, without statistics.median's checks: it is made for most responses.
            near = sorted([seconds for _, seconds in self._nearest(found)])
            middle, odd = divmod(len(near), 2)
            known = near[middle] if odd else (near[middle - 1] + near[middle]) / 2.0
            self._estimates[found] = known
        return known

    def _nearest(self, found: int) -> list[tuple[int, float]]:
        """The nine samples, as numbered, whose number in flight was nearest, newer ones first."""
        groups = self._groups
        if groups is None:
            groups = self._groups = self._grouped()
        near = groups.get(found, [])[-_NEAR:]
        for distance in range(1, _WALK):
            if len(near) >= _NEAR:
                return near
            ring = groups.get(found - distance, []) + groups.get(found + distance, [])
            if len(near) + len(ring) > _NEAR:
                ring.sort(reverse=True)  # by number: newer first
            near = near + ring[: _NEAR - len(near)]
        if len(near) >= min(_NEAR, self._number):
            return near
        every = [(abs(n - found), -number, s) for n, group in groups.items() for number, s in group]
        return [(-number, seconds) for _, number, seconds in sorted(every)[:_NEAR]]

    def _grouped(self) -> dict[int, list[tuple[int, float]]]:
        """The samples by what they met: number and seconds, oldest first."""
        groups: dict[int, list[tuple[int, float]]] = {}
        for number in range(max(0, self._number - _KEPT), self._number):
            sample = (number, self._seconds[number % _KEPT])
            groups.setdefault(self._met[number % _KEPT], []).append(sample)
        return groups

    def report(self) -> LoadReport:
        """To be sent with a response, after ``end``."""
        return LoadReport(in_flight=self.in_flight, latency=self.latency)
