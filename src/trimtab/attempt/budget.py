"""How many attempts beyond the first a client may make, over all its requests to a cluster."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

RATIO = 0.2
FLOOR = 10.0
_LOOK_EVERY = 50  # requests, from one look at what is in flight to the next
_MEMORY = 0.9  # of the last looks' highest


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
    """Attempts beyond the first are at most a fifth of the requests, after what was saved up.

    tokens move by ratio per request towards most = max(floor, F), and 1 less per further attempt;
    F = max(requests in flight, 0.9 * F), looked at every 50 requests. So in any stretch of n requests
    there are at most saved + ratio * n of them, saved being the tokens at its beginning: in a full
    outage 1.2 attempts per request, after a burst of no more than what was in flight before it.
    Why in flight: an endpoint that dies takes its part of them with it at a stroke, and all of these
    may be made again. What is saved beyond ``most``, after a busier time, goes as it came.
    Sources: Finagle's and Linkerd's retry budgets for the ratio; they save what 10 s bring in.
    Weakness: the floor is per client and cluster; many clients that begin at once, each with a handful
    of requests, may retry more. Budgets of services that call one another multiply. Attempts that
    never reached a server are free.

    Args:
        ratio: what a request earns; 0 leaves the floor alone, once.
        floor: the least that may be saved up, and what a new client begins with.
        throttle: the service configuration's own rule, on top.
        lock: held for each change; a door that is used from several threads gives one.
        in_flight: says how many requests there are now; None: the floor is all that is saved.
    """

    __slots__ = ("_flight", "_floor", "_in_flight", "_lock", "_look", "_most", "_ratio", "_tokens", "throttle")  # fmt: skip

    def __init__(
        self,
        ratio: float = RATIO,
        floor: float = FLOOR,
        throttle: Throttle | None = None,
        lock: AbstractContextManager[Any] | None = None,
        in_flight: Callable[[], int] | None = None,
    ) -> None:
        self._lock: AbstractContextManager[Any] = lock if lock is not None else nullcontext()
        self._ratio = ratio
        self._floor = self._tokens = self._most = floor
        self.throttle = throttle
        self._in_flight = in_flight
        self._flight = 0.0
        self._look = 0

    def allow(self, ratio: float) -> None:
        """What a request earns from now on."""
        with self._lock:
            self._ratio = ratio

    def earn(self) -> None:
        """A request began."""
        if self._in_flight is not None:
            self._look -= 1
            if self._look < 0:
                self._look = _LOOK_EVERY
                self._flight = max(self._in_flight(), _MEMORY * self._flight)
                self._most = max(self._floor, self._flight)
        if self._tokens != self._most:
            with self._lock:
                if self._tokens < self._most:
                    self._tokens = min(self._most, self._tokens + self._ratio)
                else:
                    self._tokens = max(self._most, self._tokens - self._ratio)

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
