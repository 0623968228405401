"""The rejected parts of the input, as operators see them: which, since when, how often."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trimtab.model import Problem

MAX_PROBLEMS = 1000  # per control plane; a broken generator must not fill the memory


@dataclass(frozen=True, slots=True)
class Sighting:
    """A problem of one source.

    Attributes:
        source: the source's name.
        problem: what was rejected.
        first: when it was first reported [s, monotonic].
        times: how often it was reported.
    """

    source: str
    problem: Problem
    first: float
    times: int


class Problems:
    """Problems by source, object and field; the oldest makes room for a new one."""

    def __init__(self) -> None:
        self._sightings: dict[tuple[str, str, str], Sighting] = {}

    def report(self, source: str, problem: Problem, now: float) -> bool:
        """Note a problem. True if it is news: not known yet, or with another value."""
        key = (source, problem.where, problem.field)
        known = self._sightings.get(key)
        if known is not None and known.problem == problem:
            self._sightings[key] = Sighting(source, problem, known.first, known.times + 1)
            return False
        if known is None and len(self._sightings) >= MAX_PROBLEMS:
            del self._sightings[next(iter(self._sightings))]
        self._sightings[key] = Sighting(source, problem, now, 1)
        return True

    def __iter__(self) -> Iterator[Sighting]:
        return iter(self._sightings.values())

    def __len__(self) -> int:
        return len(self._sightings)
