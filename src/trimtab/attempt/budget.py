"""How many attempts beyond the first a client may make, over all its requests to a cluster."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

RATIO = 0.2
FLOOR = 10.0


class Throttle:
    """gRFC A6's ``retryThrottling``: no retries while too many attempts fail.

    tokens = min(most, tokens + ratio) per success, 1 less per failure that is retryable or whose
    server wants no retry. Retries and hedges leave while tokens > most / 2.

    Args:
        most: ``maxTokens``, above 0 and up to 1000.
        ratio: ``tokenRatio``, above 0.
    """

    __slots__ = ("_most", "_ratio", "_tokens")

    def __init__(self, most: float, ratio: float) -> None:
        self._most = self._tokens = most
        self._ratio = ratio

    @property
    def allows(self) -> bool:
        """Whether a retry or hedge may leave."""
        return self._tokens > self._most / 2

    def succeeded(self) -> None:
        """An attempt ended well."""
        self._tokens = min(self._most, self._tokens + self._ratio)

    def failed(self) -> None:
        """An attempt failed in a way that could be retried, or its server wants no retry."""
        self._tokens = max(0.0, self._tokens - 1.0)


class Budget:
    """Attempts beyond the first are at most a fifth of the requests, after a small floor.

    tokens = min(floor, tokens + ratio) per request, 1 less per further attempt. So in any stretch
    of n requests there are at most floor + ratio * n of them: in a full outage 1.2 attempts per
    request. Weakness: the floor is per client and cluster; many clients that begin at once, each
    with a handful of requests, may retry more. Attempts that never reached a server are free.

    Args:
        ratio: what a request earns; 0 leaves the floor alone, once.
        floor: what may be saved up; both the burst and what a new client begins with.
        throttle: the service configuration's own rule, on top.
        lock: held for each change; a door that is used from several threads gives one.
    """

    __slots__ = ("_floor", "_lock", "_ratio", "_tokens", "throttle")

    def __init__(
        self,
        ratio: float = RATIO,
        floor: float = FLOOR,
        throttle: Throttle | None = None,
        lock: AbstractContextManager[Any] | None = None,
    ) -> None:
        self._lock: AbstractContextManager[Any] = lock if lock is not None else nullcontext()
        self._ratio = ratio
        self._floor = self._tokens = floor
        self.throttle = throttle

    def earn(self) -> None:
        """A request began."""
        if self._tokens < self._floor:
            with self._lock:
                self._tokens = min(self._floor, self._tokens + self._ratio)

    def spend(self) -> bool:
        """Whether a further attempt may begin; if so it is paid for."""
        with self._lock:
            if self._tokens < 1.0 or (self.throttle is not None and not self.throttle.allows):
                return False
            self._tokens -= 1.0
            return True

    def succeeded(self) -> None:
        """An attempt ended well."""
        if self.throttle is not None:
            with self._lock:
                self.throttle.succeeded()

    def failed(self) -> None:
        """An attempt failed in a way that could be retried, or its server wants no retry."""
        if self.throttle is not None:
            with self._lock:
                self.throttle.failed()
