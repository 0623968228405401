"""How many of a client's requests left its zone: counters, from counts by zone. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

OWN, OTHER, UNKNOWN = "own", "other", "unknown"


class ZoneCrossings:
    """Requests to the client's own zone, to others, and where one of the two is not known.

    A client may learn its zone after its first requests: what was counted before stays what it was,
    so that no count ever goes back. May be read from any thread while another moves it.

    Args:
        zone: the client's; "": unknown.
    """

    __slots__ = ("_since",)

    def __init__(self, zone: str) -> None:
        # In one piece, for those who read meanwhile: the zone, what was counted before the client
        # was there, and the requests by zone at that time.
        self._since: tuple[str, Counter[str], Mapping[str, int]] = (zone, Counter(), {})

    def move(self, zone: str, picks: Mapping[str, int]) -> None:
        """The client's zone is another one from now on, after so many requests by zone."""
        self._since = (zone, self.read(picks), dict(picks))

    def read(self, picks: Mapping[str, int]) -> Counter[str]:
        """By ``OWN``, ``OTHER`` and ``UNKNOWN``, from all requests so far by zone.

        Where the client's zone is known, its own and the others' are there, if only with 0.
        """
        own, before, counted = self._since
        found = Counter(before)
        if own:
            found[OWN] += 0
            found[OTHER] += 0
        for zone, total in picks.items():
            if sent := total - counted.get(zone, 0):
                found[_relation(own, zone)] += sent
        return found


def _relation(own: str, zone: str) -> str:
    if not own or not zone:
        return UNKNOWN
    return OWN if zone == own else OTHER
