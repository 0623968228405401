"""Wakes a thread, from anywhere: also out of a finaliser or a signal handler that comes in between its own steps."""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue

_LOOK_S = 0.1  # as gRPC's own waits (grpc/grpc#19464): a signal just before a thread blocks is handled once it goes on


class Wakeup:
    """For one thread that waits. An ``Event`` has a lock, which whoever is interrupted may hold: it would wait for itself."""

    __slots__ = ("_rings",)

    def __init__(self) -> None:
        self._rings: SimpleQueue[None] = SimpleQueue()

    def ring(self) -> None:
        """Wake it, now or when it waits next. Never blocks."""
        if self._rings.empty():  # whoever hears that one looks at everything later than now
            self._rings.put(None)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait so long [s]; whether it was woken."""
        try:
            self._rings.get(timeout=timeout)
        except Empty:
            return False
        return True


class Waiters:
    """For any number of threads, each of which waits until something is true.

    What a ``Condition`` is for, but that who makes it true takes no lock, and may interrupt one that is about to wait.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[Wakeup, None] = {}

    def tell(self) -> None:
        """Have all of them look again. Never blocks."""
        for wakeup in list(self._waiting):
            wakeup.ring()

    def wait_for(
        self,
        look: Callable[[], object],
        left: Callable[[], float | None] = lambda: None,
    ) -> bool:
        """Wait until ``look`` says so, or nothing is ``left`` of the time [s]; what ``look`` said last."""
        if look():
            return True
        wakeup = Wakeup()
        self._waiting[wakeup] = None  # before the look that counts
        try:
            while not look():
                wait = left()
                if wait is not None and wait <= 0.0:
                    return False
                wakeup.wait(_LOOK_S if wait is None else min(wait, _LOOK_S))
        finally:
            del self._waiting[wakeup]
        return True
