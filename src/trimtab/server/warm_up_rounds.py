"""Which steps of a warm-up run next, and when. Pure: no clock of its own."""

from __future__ import annotations

from trimtab.backoff import Backoff


class Rounds:
    """Each round runs the steps that have not passed, in their order, until none or no time is left.

    In rounds, and not one step until it passes: a step that can't succeed yet must not keep the
    others from being done, and one that needs an earlier step is tried again after it.

    Args:
        steps: how many there are.
        now: the present moment [s].
        limit_s: how long all of it may take [s].
        backoff: how long to wait after a round in which a step failed.
    """

    def __init__(self, steps: int, *, now: float, limit_s: float, backoff: Backoff) -> None:
        self._left = list(range(steps))
        self._end = now + limit_s
        self._backoff = backoff

    @property
    def left(self) -> tuple[int, ...]:
        """The steps that have not passed, by their place."""
        return tuple(self._left)

    def passed(self, step: int) -> None:
        """A step need not run again."""
        self._left.remove(step)

    def pause(self, now: float) -> float | None:
        """After a round: the time [s] until the next one; None if there is none.

        All steps have passed then, or the limit is reached. A pause never lasts past the limit.
        """
        if not self._left or now >= self._end:
            return None
        return min(self._backoff.next(), self._end - now)
