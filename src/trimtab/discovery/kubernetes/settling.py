"""Holds back for a moment what would take ready endpoints away without a word.

An endpoint that moves from one EndpointSlice to another is deleted here and added there in two events,
in either order. A pod that really goes is terminating first. So a ready endpoint that just vanishes
stays in what is told for ``settle_s`` more; if it is there again by then, nothing has happened. All
else is told at once, additions in the same snapshot included. (Kubernetes documents that endpoints may
be duplicated or missing while slices are rebalanced.)
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from operator import attrgetter, is_

from trimtab.model import Endpoint, Health, Removed, Snapshot, Updated

Key = tuple[str, int]  # address, port: Endpoint.key
_key = attrgetter("key")


class _Cluster:
    """One cluster.

    Attributes:
        truth: what was heard last.
        told: what was told last.
        held: the vanished endpoints with the times until which they stay, the first to go first.
    """

    __slots__ = ("held", "told", "truth")

    def __init__(self, snapshot: Snapshot) -> None:
        self.truth = self.told = snapshot
        self.held: dict[Key, tuple[float, Endpoint]] = {}

    def hear(self, snapshot: Snapshot, until: float) -> None:
        """Take in a new state; what of the last one just vanished stays for so long."""
        before, after = _differing(self.truth.endpoints, snapshot.endpoints)
        self.truth = snapshot
        for endpoint in before:
            if endpoint.health is Health.READY:
                self.held.setdefault(endpoint.key, (until, endpoint))
        if not self.held:
            return
        # What is there again, be it as the second address of a dual-stack endpoint. gRPC refuses
        # an assignment that has an address twice.
        there = {(a, e.port) for e in after for a in (e.address, *e.additional_addresses)}
        for key, (end, endpoint) in list(self.held.items()):
            if key in there:
                del self.held[key]
                continue
            others = endpoint.additional_addresses
            rest = tuple(a for a in others if (a, endpoint.port) not in there)
            if rest != others:
                self.held[key] = (end, replace(endpoint, additional_addresses=rest))

    def settle(self, now: float) -> None:
        """Give up what did not come back in time."""
        for key, (until, _) in list(self.held.items()):
            if now < until:
                return
            del self.held[key]

    def news(self) -> Snapshot | None:
        """What is to be told; None if that was told already."""
        snapshot = self.truth
        if self.held:
            endpoints = list(snapshot.endpoints)
            for _, endpoint in self.held.values():
                insort(endpoints, endpoint, key=_key)
            snapshot = Snapshot.presorted(
                snapshot.cluster, tuple(endpoints), snapshot.policy, snapshot.service
            )
        if snapshot == self.told:
            return None
        self.told = snapshot
        return snapshot


class Settling:
    """See the module. Pure: times are arguments [s].

    Args:
        settle_s: how long; 0 holds nothing back.
    """

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._clusters: dict[str, _Cluster] = {}
        self._holding: dict[str, _Cluster] = {}

    @property
    def due(self) -> float | None:
        """When something that is held is to be told; None: nothing is."""
        firsts = (next(iter(cluster.held.values())) for cluster in self._holding.values())
        return min((until for until, _ in firsts), default=None)

    def tell(self, events: Iterable[Updated | Removed], now: float) -> list[Updated | Removed]:
        """What of these changes is to be told now, and of those before, what has settled."""
        told: list[Updated | Removed] = []
        touched = dict(self._holding)
        for event in events:
            if isinstance(event, Removed):
                for clusters in (self._clusters, self._holding, touched):
                    clusters.pop(event.cluster, None)
                told.append(event)
                continue
            snapshot = event.snapshot
            cluster = self._clusters.get(snapshot.cluster)
            if cluster is None:
                self._clusters[snapshot.cluster] = _Cluster(snapshot)
                told.append(event)
            else:
                cluster.hear(snapshot, now + self._settle_s)
                touched[snapshot.cluster] = cluster
        for name, cluster in touched.items():
            cluster.settle(now)
            if cluster.held:
                self._holding[name] = cluster
            else:
                self._holding.pop(name, None)
            news = cluster.news()
            if news is not None:
                told.append(Updated(news))
        return told


def _differing(
    old: Sequence[Endpoint], new: Sequence[Endpoint]
) -> tuple[Sequence[Endpoint], Sequence[Endpoint]]:
    """Both without the very same endpoints that they begin and end with: mostly, all but a few."""
    shorter = min(len(old), len(new))
    head = _same(map(is_, old, new), shorter)
    tail = _same(map(is_, reversed(old), reversed(new)), shorter - head)
    return old[head : len(old) - tail], new[head : len(new) - tail]


def _same(pairs: Iterable[bool], most: int) -> int:
    """How many are the same at the beginning."""
    same = list(islice(pairs, most))
    return same.index(False) if False in same else most
