"""Holds back for a while that objects are gone which a list just didn't have. Pure: times are arguments.

A watch that says DELETED is evidence. A list without an object is none: an API server that was restored
from a backup, or whose cache is empty after a start, answers 200 with too little (kubernetes#59848 and
others). A few objects that a list lacks are believed, as every reconnect finds some. When they hold all
endpoints, or FEW or more and a fifth of all, they stay for ``hold_s``, unless they show up again, or their
deletion does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from typing import Generic, TypeVar

MASS, FEW = 0.2, 5

K = TypeVar("K", bound=Hashable)


def is_mass(lost: int, known: int) -> bool:
    """Whether so many endpoints of all that are known don't go unnoticed: all, or FEW and a fifth."""
    return lost > 0 and (lost >= known or lost >= max(FEW, MASS * known))


class Withholding(Generic[K]):
    """The objects that are missed and kept.

    Args:
        hold_s: how long [s]; 0: nothing is kept.
    """

    def __init__(self, hold_s: float) -> None:
        self._hold_s = hold_s
        self._until: dict[K, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    @property
    def due(self) -> float | None:
        """When the first of them is given up; None: none is kept."""
        return next(iter(self._until.values()), None)

    def misses(self, keys: Collection[K], lost: int, known: int, now: float) -> bool:
        """A list lacks these objects; whether they are kept.

        Args:
            keys: of the objects.
            lost: the endpoints that would go with them.
            known: all endpoints that are known.
            now: present time [s].
        """
        if not self._hold_s or not is_mass(lost, known):
            return False
        for key in keys:
            self._until.setdefault(key, now + self._hold_s)
        return True

    def seen(self, key: K) -> bool:
        """It is there again, or its deletion was told: what it was is settled. Whether it was kept."""
        return self._until.pop(key, None) is not None

    def over(self, now: float, wanted: Callable[[K], bool] = lambda _key: True) -> list[K]:
        """Those whose time is over; they are gone now."""
        over = [key for key, until in self._until.items() if until <= now and wanted(key)]
        for key in over:
            del self._until[key]
        return over
