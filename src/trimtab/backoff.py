"""When a lost server is asked again: exponential back-off with jitter over most of the delay.

delay [s] = uniform(limit / 4, limit), limit = min(30, 0.1 · 2^failures). Jitter spreads the clients
that lost one server at the same instant over the window (Brooker, "Exponential Backoff And Jitter",
AWS Architecture Blog). There it is full, from 0 on; but whoever draws short delays at first is at long
ones sooner, and comes late to a server that was away for a moment; and where all are at the longest, a
second that comes meets 1/15 of them, twice the average. From a quarter on it is 1/19, and after an absence
of 2 s none comes later than 6.4 s. Known weakness: after a long absence clients come 11 s later on average,
not 10.
"""

from __future__ import annotations

from random import Random

FIRST_S = 0.1
CAP_S = 30.0
_SHORTEST = 0.25  # of the longest delay
_STEPS = 30  # doubling more often than that is past any cap

HEALTHY_S = 5.0
"""A stream that lasted this long [s] and gave answers starts the back-off anew.

Without the duration, a server that crashes on its first answer would be asked ten times a second by
every client.
"""


class Backoff:
    """The delays before successive attempts at one server.

    Args:
        random: draws the jitter.
        first_s: the longest first delay [s].
        cap_s: the longest delay of all [s].
    """

    def __init__(self, random: Random, *, first_s: float = FIRST_S, cap_s: float = CAP_S) -> None:
        self._random = random
        self._first_s = first_s
        self._cap_s = cap_s
        self._failures = 0

    def next(self) -> float:
        """The delay [s] before the next attempt; each call counts one failure more."""
        limit = min(self._cap_s, self._first_s * 2 ** min(self._failures, _STEPS))
        self._failures += 1
        return self._random.uniform(_SHORTEST * limit, limit)

    def reset(self) -> None:
        """Begin again at the first delay."""
        self._failures = 0
