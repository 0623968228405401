"""Calls back at given times: what an asyncio loop's ``call_later`` is to tasks, for threads."""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Callable
from itertools import count

from trimtab.client.wakeup import Waiters

_IDLE_S = 5.0  # how long the thread waits for more to do

_log = logging.getLogger("trimtab.client")


class Alarms:
    """One daemon thread, which is there while something is due.

    Attributes:
        closed: whether nobody is to wait any more.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._news = threading.Condition()
        self._there = False
        self._waiters = Waiters()
        self.closed = False

    def wait(self, until: float) -> bool:
        """Wait in the caller's thread; False, at once, if this is closed."""
        return not self._waiters.wait_for(lambda: self.closed, lambda: until - self._clock())

    def close(self) -> None:
        """Everything is due now, and whatever comes later is at once."""
        with self._news:
            self.closed = True
            self._news.notify()
        self._waiters.tell()

    def at(self, when: float, callback: Callable[[], None]) -> None:
        """Call back soon after ``when``, or when this is closed; what has become pointless by then must find out itself."""
        with self._news:
            heapq.heappush(self._due, (when, next(self._numbers), callback))
            if not self._there:
                # May raise, where the process has as many threads as it may: the next alarm tries again.
                threading.Thread(target=self._run, name="trimtab-alarms", daemon=True).start()
                self._there = True
            elif self._due[0][0] == when or self.closed:
                self._news.notify()

    def _run(self) -> None:
        while callback := self._next():
            try:
                callback()
            except Exception:  # noqa: BLE001 - the others' turn comes all the same
                _log.exception("a further attempt could not be made")

    def _next(self) -> Callable[[], None] | None:
        """What is due, when it is; None: nothing was for a while, and the thread ends."""
        with self._news:
            while True:
                now = self._clock()
                if self._due and (self._due[0][0] <= now or self.closed):
                    return heapq.heappop(self._due)[2]
                wait = self._due[0][0] - now if self._due else _IDLE_S
                if not self._news.wait(wait) and not self._due:
                    self._there = False
                    return None
