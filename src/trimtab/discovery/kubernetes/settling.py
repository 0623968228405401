"""Holds back for a moment what would take ready endpoints away without a word.

An endpoint that moves from one EndpointSlice to another is deleted here and added there in two events,
in either order. A pod that really goes is terminating first. So a ready endpoint that just vanishes
stays in what is told for ``settle_s`` more; if it is there again by then, nothing has happened. All
else is told at once, additions in the same snapshot included. (Kubernetes documents that endpoints may
be duplicated or missing while slices are rebalanced.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from trimtab.model import Health, Removed, Snapshot, Updated


class Settling:
    """See the module. Pure: times are arguments [s].

    Args:
        settle_s: how long; 0 holds nothing back.
    """

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._told: dict[str, Snapshot] = {}
        self._held: dict[str, tuple[float, Snapshot]] = {}  # until when, the truth

    @property
    def due(self) -> float | None:
        """When something that is held is to be told; None: nothing is."""
        return min((until for until, _ in self._held.values()), default=None)

    def tell(self, events: Iterable[Updated | Removed], now: float) -> list[Updated | Removed]:
        """What of these changes is to be told now, and of those before, what has settled."""
        told: list[Updated | Removed] = []
        for event in events:
            if isinstance(event, Removed):
                self._held.pop(event.cluster, None)
                self._told.pop(event.cluster, None)
                told.append(event)
            else:
                told.extend(self._updated(event.snapshot, now))
        for cluster, (until, truth) in list(self._held.items()):
            if now >= until:
                del self._held[cluster]
                self._told[cluster] = truth
                told.append(Updated(truth))
        return told

    def _updated(self, snapshot: Snapshot, now: float) -> list[Updated | Removed]:
        cluster = snapshot.cluster
        before = self._told.get(cluster)
        there = {endpoint.key for endpoint in snapshot.endpoints}
        vanished = [
            endpoint
            for endpoint in (before.endpoints if before is not None else ())
            if endpoint.health is Health.READY and endpoint.key not in there
        ]
        if not vanished or not self._settle_s:
            self._held.pop(cluster, None)
            self._told[cluster] = snapshot
            return [Updated(snapshot)]
        until = self._held[cluster][0] if cluster in self._held else now + self._settle_s
        self._held[cluster] = (until, snapshot)
        meanwhile = replace(snapshot, endpoints=(*snapshot.endpoints, *vanished))
        if meanwhile == before:
            return []
        self._told[cluster] = meanwhile
        return [Updated(meanwhile)]
