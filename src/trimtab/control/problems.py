"""The rejected parts of the input, as operators see them: which, since when, how often.

A source says when it rejects something, not when that was mended. So this is a list of reports, the
latest first, with their ages; it is not a list of what is wrong now.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trimtab.model import Problem

MAX_PROBLEMS = 200  # per control plane; a broken generator must not fill the memory


@dataclass(frozen=True, slots=True)
class Sighting:
    """A problem of one source.

    Attributes:
        source: the source's name.
        problem: what was rejected.
        last: when it was last reported [s, monotonic].
        times: how often it was reported.
    """

    source: str
    problem: Problem
    last: float
    times: int


class Problems:
    """Problems by source, object and field; the oldest report makes room for a new one."""

    def __init__(self) -> None:
        self._sightings: dict[tuple[str, str, str], Sighting] = {}

    def report(self, source: str, problem: Problem, now: float) -> bool:
        """Note a problem. True if it is news: not known yet, or with another value."""
        key = (source, problem.where, problem.field)
        known = self._sightings.pop(key, None)
        same = known is not None and known.problem == problem
        times = known.times + 1 if known is not None and same else 1
        self._sightings[key] = Sighting(source, problem, now, times)
        if len(self._sightings) > MAX_PROBLEMS:
            del self._sightings[next(iter(self._sightings))]
        return not same

    def __iter__(self) -> Iterator[Sighting]:
        """The latest report first."""
        return reversed(self._sightings.values())

    def __len__(self) -> int:
        return len(self._sightings)
