"""When a changed cluster's news leaves. Pure: ``now`` [s, monotonic] is an argument.

The first change of a quiet cluster leaves at once. It opens a window during which further changes
of the same cluster are held; what was held leaves together when the window ends, and the next
window is twice as long. After a window in which nothing came the cluster rests: a change leaves at
once, but is part of the churn, and its window is twice as long too. Each rest that nothing disturbs
halves the next window, until the cluster counts as quiet again. A cluster that leaves for the fifth time within
a second is held for the length of a rest at least: else changes that each find it quiet, with a burst after
them, would leave twelve times. Clusters don't hold up each other.

    window: 10 ms at first, at most 200 ms; rest: 100 ms
    so a cluster leaves at most 10 times in any second, and under steady churn 5 times

Known weakness: a change that comes 1 ms after the first of a quiet cluster waits for 9 ms.
"""

from __future__ import annotations

import heapq

FIRST_WINDOW_S = 0.010
LONGEST_WINDOW_S = 0.200
REST_S = 0.100
_OFTEN = 5  # times within a second


class _Window:
    """One cluster's window, or the rest after it.

    Attributes:
        length: of the window as the churn has it [s]; it may hold for longer.
        rests: when the first rest after it is over.
        ends: when it is, or the rest that goes on.
        holding: whether changes wait for its end; else it is a rest.
        changed: whether one waits.
    """

    __slots__ = ("changed", "ends", "holding", "length", "rests")

    def __init__(self, length: float, ends: float, rests: float) -> None:
        self.length = length
        self.ends = ends
        self.rests = rests
        self.holding = True
        self.changed = False


class Batching:
    """Per-cluster leading-edge batching. Memory: clusters that changed lately only.

    When they left is kept until a change after a second, of whichever cluster.
    """

    def __init__(
        self,
        *,
        first_s: float = FIRST_WINDOW_S,
        longest_s: float = LONGEST_WINDOW_S,
        rest_s: float = REST_S,
    ) -> None:
        self._first = first_s
        self._longest = longest_s
        self._rest = rest_s
        self._windows: dict[str, _Window] = {}
        self._ends: list[tuple[float, str]] = []
        self._left: dict[str, tuple[float, ...]] = {}  # the last times, who left last at the end

    def changed(self, cluster: str, now: float) -> bool:
        """Note a change. True: it leaves now. False: ``due`` will name the cluster later."""
        window = self._windows.get(cluster)
        if window is None:
            self._open(cluster, self._first, now)
            return True
        if window.holding:
            window.changed = True
            return False
        self._open(cluster, min(window.length * 2, self._longest), now)
        return True

    def due(self, now: float) -> list[str]:
        """The clusters whose held changes leave now. To be called at ``next_due``."""
        leaving: list[str] = []
        while self._ends and self._ends[0][0] <= now:
            ends, cluster = heapq.heappop(self._ends)
            window = self._windows.get(cluster)
            if window is None or window.ends != ends:
                continue  # a newer window has taken its place
            if window.changed:
                leaving.append(cluster)
                self._open(cluster, min(window.length * 2, self._longest), now)
                continue
            if window.holding:
                window.ends = window.rests
            else:
                window.length /= 2
                window.ends = now + self._rest
            if window.length < self._first:
                del self._windows[cluster]
                continue
            window.holding = False
            heapq.heappush(self._ends, (window.ends, cluster))
        return leaving

    def next_due(self) -> float | None:
        """When ``due`` must be called next, None while every cluster is quiet."""
        return self._ends[0][0] if self._ends else None

    def __len__(self) -> int:
        return len(self._windows)

    def _open(self, cluster: str, length: float, now: float) -> None:
        hold = max(length, self._rest) if self._leaves_often(cluster, now) else length
        window = _Window(length, now + hold, now + length + self._rest)
        self._windows[cluster] = window
        heapq.heappush(self._ends, (window.ends, cluster))

    def _leaves_often(self, cluster: str, now: float) -> bool:
        """Note that it leaves now; whether it is often within the last second."""
        left = self._left
        times = (*left.pop(cluster, ())[1 - _OFTEN :], now)
        left[cluster] = times
        while left[longest := next(iter(left))][-1] <= now - 1.0:
            del left[longest]
        return len(times) == _OFTEN and times[0] > now - 1.0
