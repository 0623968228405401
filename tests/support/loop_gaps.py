"""How long an event loop belongs to one and the same step."""

import asyncio
import time


class Gaps:
    """How much processor time the event loop spends between two looks, at most [s]."""

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
