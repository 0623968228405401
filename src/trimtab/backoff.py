"""When a lost server is asked again: exponential back-off with full jitter.

delay [s] = uniform(0, min(30, 0.1 · 2^failures)). Full jitter spreads the clients that lost one
server at the same instant evenly over the window (Brooker, "Exponential Backoff And
Jitter", AWS Architecture Blog). Known weakness: a single delay can be close to zero; the sum of
several can't.
"""

from __future__ import annotations

from random import Random

FIRST_S = 0.1
CAP_S = 30.0
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
        return self._random.uniform(0.0, limit)

    def reset(self) -> None:
        """Begin again at the first delay."""
        self._failures = 0
