"""What finalisers have to do, done a moment later in a thread of its own.

Garbage is collected anywhere: in the middle of a choice, of a policy's own accounting, of an exporter's. What ends
then must neither wait for a lock that the interrupted code holds, nor change what that is about to read.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue

from trimtab.balancer import Pick
from trimtab.client.observing import End
from trimtab.policies import CANCELLED

_CANCELLED = "CANCELLED"  # for who watches
_IDLE_S = 5.0  # how long the thread waits for more to do

_log = logging.getLogger("trimtab.client")


class Afterwards:
    """One daemon thread, which is there while there is something to do. Takes no lock, and may come in between itself."""

    def __init__(self) -> None:
        self._steps: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._there = False

    def do(self, step: Callable[[], None]) -> None:
        """Have a step taken soon, after those before it. Never waits for anybody's lock."""
        self._steps.put(step)
        if not self._there and not sys.is_finalizing():  # then no thread would begin
            self._there = True  # a second thread would do no harm
            try:
                threading.Thread(target=self._run, name="trimtab-ends", daemon=True).start()
            except RuntimeError:  # the interpreter ends, or has as many threads as it may
                self._there = False

    def _run(self) -> None:
        while True:
            try:
                step = self._steps.get(timeout=_IDLE_S)
            except Empty:
                self._there = False
                if self._steps.empty():  # whoever comes later begins another
                    return
                self._there = True
                continue
            try:
                step()
            except BaseException:  # noqa: BLE001 - the others' turn comes all the same
                _log.exception("the end of a call that was dropped could not be counted")
            del step  # keep nothing of it while this waits


_afterwards = Afterwards()


def afterwards(step: Callable[[], None]) -> None:
    """Have ``step`` taken soon, outside of what is interrupted now; for finalisers."""
    _afterwards.do(step)


def end_given_up(pick: Pick, end: End | None, error: BaseException) -> None:
    """End an attempt that nobody waits for any more; ``error`` is what its coroutine got."""
    if isinstance(error, GeneratorExit):  # it is garbage
        pick.drop()
        if end is not None:
            afterwards(partial(end, _CANCELLED))
        return
    pick.finish(CANCELLED)
    if end is not None:
        end(_CANCELLED)


def _in_child() -> None:
    global _afterwards  # noqa: PLW0603 - fork replaces the state of the process
    _afterwards = Afterwards()


os.register_at_fork(after_in_child=_in_child)
