"""A simulated pod: workers with one queue. The engine drives it and owns clock and calendar."""

from __future__ import annotations

from collections import deque
from typing import Any

from trimtab.model import Endpoint
from trimtab.server.load_meter import LoadMeter


class Server:
    """One pod.

    Args:
        endpoint: as the clients see it.
        workers: requests served at once.

    Attributes:
        slow: service times are multiplied by this.
        cold: so many further requests are slower by ``cold_factor``.
        failing: the part of requests that fail at once, 0 to 1.
        gone: it answers nothing any more.
        served, failed: requests ended.
        working: workers that are busy.
        work_s: worker-seconds spent.
        queue: requests that wait.
        meter: its load reports.
    """

    __slots__ = ("cold", "cold_factor", "endpoint", "failed", "failing", "gone", "meter", "queue",
                 "served", "slow", "work_s", "workers", "working")  # fmt: skip

    def __init__(self, endpoint: Endpoint, workers: int) -> None:
        self.endpoint = endpoint
        self.workers = workers
        self.slow = 1.0
        self.cold = 0
        self.cold_factor = 1.0
        self.failing = 0.0
        self.gone = False
        self.served = 0
        self.failed = 0
        self.working = 0
        self.work_s = 0.0
        self.queue: deque[Any] = deque()
        self.meter = LoadMeter()

    def takes(self, drawn_s: float) -> float:
        """How long a request that starts now occupies a worker [s]."""
        seconds = drawn_s * self.slow
        if self.cold:
            self.cold -= 1
            seconds *= self.cold_factor
        return seconds
