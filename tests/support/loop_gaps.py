"""How long an event loop belongs to one and the same step."""

import asyncio
import time

WORK = 600_000
WORK_S = 0.0175  # of processor time, where the bounds of the tests were found


class Gaps:
    """How much processor time the event loop spends between two looks, at most [s].

    Once it has stopped, a processor that is slower than that of the bounds is taken into account.
    """

    def __init__(self):
        self.longest = 0.0
        self._loop = asyncio.get_running_loop()
        self._last = None
        self._look()

    def _look(self):
        now = time.thread_time()
        if self._last is not None:
            self.longest = max(self.longest, now - self._last)
        self._last = now
        self._next = self._loop.call_soon(self._look)

    def stop(self):
        self._next.cancel()
        self.longest /= slowness()


def slowness():
    """How many times as long work takes on this processor, by the best of some tries; at least 1."""
    return max(1.0, min(_seconds() for _ in range(5)) / WORK_S)


def _seconds():
    begin = time.thread_time()
    sum(i & 7 for i in range(WORK))
    return time.thread_time() - begin
