"""When a changed cluster's news leaves. Pure: ``now`` [s, monotonic] is an argument.

The first change of a quiet cluster leaves at once. It opens a window during which further changes
of the same cluster are held; what was held leaves together when the window ends, and the next
window is twice as long. After a window in which nothing came the cluster rests: a change leaves at
once, but is part of the churn, and its window is twice as long too. Each rest that nothing disturbs
halves the next window, until the cluster counts as quiet again. Clusters don't hold up each other.

    window: 10 ms at first, at most 200 ms; rest: 100 ms
    so a cluster leaves at most 10 times in any second, and under steady churn 5 times

Known weakness: a change that comes 1 ms after the first of a quiet cluster waits for 9 ms.
"""

from __future__ import annotations

import heapq

FIRST_WINDOW_S = 0.010
LONGEST_WINDOW_S = 0.200
REST_S = 0.100


class _Window:
    """One cluster's window, or the rest after it: its length, its end, and what happened in it."""

    __slots__ = ("changed", "ends", "holding", "length")

    def __init__(self, length: float, ends: float) -> None:
        self.length = length
        self.ends = ends
        self.holding = True
        self.changed = False


class Batching:
    """Per-cluster leading-edge batching. Memory: clusters that changed lately only."""

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
            if not window.holding:
                window.length /= 2
            if window.length < self._first:
                del self._windows[cluster]
                continue
            window.holding = False
            window.ends = now + self._rest
            heapq.heappush(self._ends, (window.ends, cluster))
        return leaving

    def next_due(self) -> float | None:
        """When ``due`` must be called next, None while every cluster is quiet."""
        return self._ends[0][0] if self._ends else None

    def __len__(self) -> int:
        return len(self._windows)

    def _open(self, cluster: str, length: float, now: float) -> None:
        window = _Window(length, now + length)
        self._windows[cluster] = window
        heapq.heappush(self._ends, (window.ends, cluster))
