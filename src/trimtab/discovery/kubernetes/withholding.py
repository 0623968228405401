"""Holds back for a while that objects are gone which a list just didn't have. Pure: times are arguments.

A watch that says DELETED is evidence. A list without an object is none: an API server that was restored
from a backup, or whose cache is empty after a start, answers 200 with too little (kubernetes#59848 and
others). A few objects that a list lacks are believed, as every reconnect finds some. They stay for
``hold_s``, unless they show up again, or their deletion does,

- all of them, if they hold all endpoints, or FEW or more and a fifth of all (``is_mass``);
- else those of a Service that would lose FEW or more and over half of its own (``is_most``), unless the
  list shows what became of it: a slice of its that is new, or has fewer endpoints than before. Whoever
  was scaled down, to zero too, or made anew while no watch ran has such a slice, and its old pods are
  not to be called any longer. A Service that is missing itself has none, and stays: if it was deleted,
  nobody is harmed by that, and if it was not, all its requests would fail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Generic, TypeVar

MASS, MOST, FEW = 0.2, 0.5, 5

K = TypeVar("K", bound=Hashable)
S = TypeVar("S", bound=Hashable)


def is_mass(lost: int, known: int) -> bool:
    """Whether so many endpoints of all that are known don't go unnoticed: all, or FEW and a fifth."""
    return lost > 0 and (lost >= known or lost >= max(FEW, MASS * known))


def is_most(lost: int, known: int) -> bool:
    """Whether so many of a single Service's endpoints don't go unnoticed: FEW, and over half."""
    return lost >= FEW and lost > MOST * known


def bereft(losses: Mapping[K, tuple[S, int]], known: Callable[[S], int]) -> set[S]:
    """The Services that would lose most of their endpoints.

    Args:
        losses: of each missing object its Service, and how many endpoints would go with it.
        known: how many endpoints a Service has.
    """
    lost: Counter[S] = Counter()
    for service, count in losses.values():
        lost[service] += count
    return {service for service, count in lost.items() if is_most(count, known(service))}


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

    def keep(self, keys: Collection[K], now: float) -> bool:
        """A list lacks these objects, and is not believed; whether they are kept.

        Args:
            keys: of the objects.
            now: present time [s].
        """
        if not self._hold_s:
            return False
        for key in keys:
            self._until.setdefault(key, now + self._hold_s)
        return bool(keys)

    def seen(self, key: K) -> bool:
        """It is there again, or its deletion was told: what it was is settled. Whether it was kept."""
        return self._until.pop(key, None) is not None

    def over(self, now: float, wanted: Callable[[K], bool] = lambda _key: True) -> list[K]:
        """Those whose time is over; they are gone now."""
        over = [key for key, until in self._until.items() if until <= now and wanted(key)]
        for key in over:
            del self._until[key]
        return over
