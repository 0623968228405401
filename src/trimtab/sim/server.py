"""A simulated pod: workers with one queue, or shared processors. The engine owns the calendar."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from typing import Any

from trimtab.model import Endpoint
from trimtab.server.load_meter import LoadMeter


class Server:
    """One pod.

    Args:
        endpoint: as the clients see it.
        workers: requests served at once, or processors that all requests share.
        sharing: whether they share.

    Attributes:
        slow: service times are multiplied by this; change it with ``Engine.set_slow``.
        cold: so many further requests are slower by ``cold_factor``.
        failing: the part of requests that fail, 0 to 1, each after ``failure_s``.
        gone: it answers nothing any more.
        sent: requests that clients sent, those on their way included.
        served, failed: requests ended.
        working: workers that are busy; always 0 where processors are shared.
        work_s: worker-seconds spent.
        queue: requests that wait.
        shared: the requests on shared processors; None: there are workers.
        meter: its load reports.
        since: when it was made [s]; ``until``: when it left.
    """

    __slots__ = ("cold", "cold_factor", "endpoint", "failed", "failing", "failure_s", "gone",
                 "meter", "queue", "sent", "served", "shared", "since", "slow", "until", "work_s",
                 "workers", "working")  # fmt: skip

    def __init__(
        self, endpoint: Endpoint, workers: int, *, sharing: bool = False, since: float = 0.0
    ) -> None:
        self.endpoint = endpoint
        self.workers = workers
        self.slow = 1.0
        self.cold = 0
        self.cold_factor = 1.0
        self.failing = 0.0
        self.failure_s = 0.0005
        self.gone = False
        self.sent = 0
        self.served = 0
        self.failed = 0
        self.working = 0
        self.work_s = 0.0
        self.queue: deque[Any] = deque()
        self.shared = Sharing(self) if sharing else None
        self.meter = LoadMeter()
        self.since = since
        self.until: float | None = None

    @property
    def outstanding(self) -> int:
        """Requests that are there or on their way there."""
        return self.sent - self.served - self.failed

    def takes(self, drawn_s: float) -> float:
        """How long a request that starts now occupies a worker [s]."""
        return self.cooled(drawn_s) * self.slow

    def cooled(self, drawn_s: float) -> float:
        """How long it would at full speed [s]; the next cold request is used up."""
        if self.cold:
            self.cold -= 1
            return drawn_s * self.cold_factor
        return drawn_s


class Sharing:
    """Processor sharing: with n requests on c processors each runs at the speed min(1, c / n).

    All requests progress alike, so one sum of progress serves all: a request that comes at progress
    P and needs w seconds ends when the sum reaches P + w. Changing the number costs O(log n).

    Attributes:
        version: grows with every change; a departure that was planned before no longer holds.
        requests: by the progress at which they end.
    """

    __slots__ = ("_at", "_progress", "_server", "requests", "version")

    def __init__(self, server: Server) -> None:
        self._server = server
        self._at = 0.0
        self._progress = 0.0
        self.version = 0
        self.requests: list[tuple[float, int, Any]] = []

    def _speed(self) -> float:
        n = len(self.requests)
        server = self._server
        return (server.workers / n if n > server.workers else 1.0) / server.slow

    def advance(self, now: float) -> None:
        """Work up to that time [s]."""
        if self.requests:
            passed = now - self._at
            self._progress += passed * self._speed()
            self._server.work_s += passed * min(len(self.requests), self._server.workers)
        self._at = now
        self.version += 1

    def begin(self, now: float, seconds: float, order: int, request: Any) -> None:
        """One more, which takes so long at full speed."""
        self.advance(now)
        heappush(self.requests, (self._progress + seconds, order, request))

    def next_end(self) -> float:
        """When the next one would end if nothing changed [s]."""
        left = max(0.0, self.requests[0][0] - self._progress)
        return self._at + left / self._speed()

    def end(self, now: float) -> Any:
        """The one that ends now."""
        self.advance(now)
        return heappop(self.requests)[2]

    def drop(self, now: float) -> list[Any]:
        """Give up all."""
        self.advance(now)
        lost = [request for _, _, request in self.requests]
        self.requests.clear()
        return lost
