"""The endpoints of a large cluster, made ready to be sent in steps, so that none holds up the loop.

What does not fit into one message is sent in subsets. All endpoints stand on a ring, each where the hash
of its address puts it; at even distances there are ``SEATS``, and a client takes the one that its node id
gives and is sent as many endpoints as fit, from there on round the ring. So an endpoint is in as many
subsets as any other, give or take two; who comes or goes changes the ends of subsets by one; every
replica chooses the same; and what is encoded for one client serves all of its seat. Usable endpoints go
first: another ring begins only where all of the one before fit.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, compress

from trimtab.model import Endpoint, Health, Snapshot
from trimtab.xds.assignments import (
    MAX_BODY,
    OVERHEAD,
    Fragments,
    View,
    endpoints_of,
    shown_weights,
)

LARGE = 2_000
"""Endpoints above which a cluster is encoded in steps."""

SEATS = 16
_STEP = 16_000  # endpoints that are looked at in one, if nothing of them has changed: some 5 ms
_ANEW = 7  # looks that the encoding of one takes: 2,000 are encoded in a step
_PART = 250
_PLACES = 1 << 32
_FRAMING = 4  # bytes of an endpoint's field and length
_RANK = {Health.READY: 0, Health.DRAINING: 1, Health.UNHEALTHY: 2}


class LargeAssignment:
    """One snapshot in one view.

    Args:
        snapshot: of a cluster, however large.
        view: what of it is shown.
        fragments: where its endpoints' encodings are kept.
        room: bytes that an encoded resource may have.
    """

    def __init__(
        self, snapshot: Snapshot, view: View, fragments: Fragments, *, room: int = MAX_BODY
    ) -> None:
        self._endpoints = endpoints_of(snapshot, view)
        self._weights = shown_weights(self._endpoints, snapshot.policy, view)
        self._fragments = fragments
        self._room = room - OVERHEAD
        self._sizes: list[int] = []
        self._rings: list[_Ring] | None = None

    def step(self) -> bool:
        """Do a bounded part of the work. Whether there was none left, or so little that it is done."""
        if self._rings is not None:
            return True
        began, many, room = len(self._sizes), len(self._endpoints), _STEP
        while room > 0 and len(self._sizes) < many:
            room -= self._measure(self._endpoints[len(self._sizes) : len(self._sizes) + _PART])
        if len(self._sizes) < many or (began < many and many > room):
            return False
        whole = sum(self._sizes) + OVERHEAD * _localities(self._endpoints)
        self._rings = [] if whole <= self._room else list(self._made())
        return many <= _STEP

    def _measure(self, part: Sequence[Endpoint]) -> int:
        """Encode what of these is not, note their sizes, and say how much work that was."""
        before, of, weights = self._fragments.encoded, self._fragments.of, self._weights
        self._sizes += [len(of(e, weights.get(e.weight, e.weight))) + _FRAMING for e in part]
        return len(part) + _ANEW * (self._fragments.encoded - before)

    def finish(self) -> None:
        """Do all of it."""
        while not self.step():
            pass

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self._rings is not None

    @property
    def exceeds(self) -> bool:
        """Whether it does not fit into one message; does what is left to do."""
        self.finish()
        return bool(self._rings)

    def subset(self, seat: int) -> list[Endpoint]:
        """What clients of a seat are sent, in the snapshot's order. For what ``exceeds``."""
        room, chosen = self._room, bytearray(len(self._endpoints))
        for ring in self._rings or ():
            room -= OVERHEAD * ring.localities
            taken, used = ring.take(seat * _PLACES // SEATS, room)
            for at in taken:
                chosen[at] = 1
            room -= used
            if len(taken) < len(ring):
                break
        return list(compress(self._endpoints, chosen))

    def _made(self) -> Iterator[_Ring]:
        groups: dict[tuple[int, int], list[int]] = {}
        for at, endpoint in enumerate(self._endpoints):
            groups.setdefault((_RANK[endpoint.health], endpoint.priority), []).append(at)
        for _, group in sorted(groups.items()):
            yield _Ring(group, self._endpoints, self._sizes)


class _Ring:
    """The endpoints of one health and priority, by their places.

    Attributes:
        localities: how many they are in.
    """

    def __init__(
        self, group: Sequence[int], endpoints: Sequence[Endpoint], sizes: Sequence[int]
    ) -> None:
        places = {at: zlib.crc32(endpoints[at].target.encode()) for at in group}
        self._order = sorted(group, key=places.__getitem__)
        self._places = [places[at] for at in self._order]
        self._ends = list(accumulate(sizes[at] for at in self._order))
        self.localities = _localities(endpoints[at] for at in group)

    def __len__(self) -> int:
        return len(self._order)

    def take(self, place: int, room: int) -> tuple[list[int], int]:
        """As many as fit from a place on: their positions in the snapshot, and the bytes they need."""
        whole = self._ends[-1]
        if whole <= room:
            return self._order, whole
        first = bisect_left(self._places, place)
        before = self._ends[first - 1] if first else 0
        end = bisect_right(self._ends, before + room)
        if end < len(self._order):
            return self._order[first:end], room
        rest = room - (whole - before)
        return self._order[first:] + self._order[: bisect_right(self._ends, rest)], room


def seat_of(node_id: str) -> int:
    """The seat of a client."""
    return zlib.crc32(node_id.encode()) % SEATS


def _localities(endpoints: Iterable[Endpoint]) -> int:
    """How many groups they make in a message."""
    # Hashing a Locality costs several times what all the rest here does; most share theirs.
    seen = {(e.priority, id(e.locality)): e.locality for e in endpoints}
    return len({(priority, locality) for (priority, _), locality in seen.items()})
