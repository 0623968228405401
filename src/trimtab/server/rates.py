"""Requests and errors per second. Pure: times are arguments."""

from __future__ import annotations

from math import exp

TAU_S = 3.0  # after this long without requests, 37 % of the old rate is left
_LEAST_S = 0.1  # what happens within less says nothing of a rate


class RateMeter:
    """Counts now, and says a smoothed rate later.

    Formula, at each ``sample``: rate += (count / dt - rate) · (1 - exp(-dt / tau)), tau = 3 s; the
    first sample is taken as it is. gRPC's weighted round robin divides the two rates by each other
    and by the utilisation, so what matters is that both are smoothed alike.

    Attributes:
        requests: requests/s at the last sample.
        errors: errors/s at the last sample.
    """

    __slots__ = ("_errors", "_requests", "_sampled", "errors", "requests")

    def __init__(self, now: float) -> None:
        self.requests = 0.0
        self.errors = 0.0
        self._requests = 0
        self._errors = 0
        self._sampled = now

    def count(self, *, failed: bool) -> None:
        """A request ended."""
        self._requests += 1
        if failed:
            self._errors += 1

    def sample(self, now: float) -> None:
        """Bring the rates up to ``now`` [s]; nothing if the last time is less than 0.1 s ago."""
        dt = now - self._sampled
        if dt < _LEAST_S:
            return
        share = 1.0 - exp(-dt / TAU_S) if self.requests else 1.0
        self.requests += (self._requests / dt - self.requests) * share
        self.errors += (self._errors / dt - self.errors) * share
        self._requests = self._errors = 0
        self._sampled = now
