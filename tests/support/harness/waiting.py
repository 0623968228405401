"""Waiting for what other processes do. The one place of the tests that reads the real clock."""

import threading
import time

POLL_S = 0.02


class Deadline:
    """A moment ``seconds`` from now."""

    def __init__(self, seconds):
        self._clock = time.monotonic  # noqa: TID251 - real processes take real time
        self._begin = self._clock()
        self._seconds = seconds

    @property
    def passed(self):
        return self.elapsed >= self._seconds

    @property
    def elapsed(self):
        return self._clock() - self._begin


def pause(seconds=POLL_S):
    """Give other processes time; never to be relied on for order."""
    threading.Event().wait(seconds)


def eventually(look, *, within, what):
    """Call ``look`` until it returns something true, and return that.

    An ``Unmet`` counts as false and says, should it never come true, what was seen instead.
    """
    deadline = Deadline(within)
    while True:
        seen = look()
        if seen and not isinstance(seen, Unmet):
            return seen
        if deadline.passed:
            raise AssertionError(f"not within {within:g} s: {what}; last seen: {seen}")
        pause()


def measured(took, *, below, tries=5):
    """Whether the times ``took`` so far [s] tell enough: one is ``below``, or there were so many tries.

    What our code waits for, it waits for every time; what a busy machine adds, it does not: the least counts.
    """
    return len(took) >= tries or min(took, default=below) < below


class Unmet(str):
    """What was seen instead of what is waited for."""

    __slots__ = ()
