"""What a channel's balancer has counted since it was asked last."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Mapping

from trimtab.balancer import Balancer, Node
from trimtab.xds.client_loads import Counts, Place

VARIABLE = "TRIMTAB_LOAD_REPORTS"
_NO = frozenset({"0", "false", "no", "off"})


def wanted(environ: Mapping[str, str] | None = None) -> bool:
    """Whether clients report their load; ``0``, ``false``, ``no`` and ``off`` forbid it."""
    found = (os.environ if environ is None else environ).get(VARIABLE, "")
    return found.strip().lower() not in _NO


class Tally:
    """One balancer's numbers, read from the subscription's thread while calls go on.

    The balancer counts upwards, but for picks that were withdrawn; differences are made here. It is not kept alive: a channel
    that was dropped just reports no more.

    Args:
        balancer: whose.
    """

    __slots__ = ("_balancer", "_seen")

    def __init__(self, balancer: Balancer) -> None:
        self._balancer = weakref.ref(balancer)
        self._seen: dict[Node, tuple[int, int, int, float]] = {}

    @property
    def gone(self) -> bool:
        """Whether the balancer is."""
        return self._balancer() is None

    def take(self) -> Iterator[tuple[Place, Counts]]:
        """What happened at each endpoint since the last time; those that have left are left out."""
        balancer = self._balancer()
        snapshot = None if balancer is None else balancer.snapshot
        if balancer is None or snapshot is None:
            return
        seen: dict[Node, tuple[int, int, int, float]] = {}
        for node in balancer.nodes.values():
            # In this order: what ends meanwhile is counted next time.
            errors, seconds, in_flight, picks = (
                node.errors,
                node.seconds,
                node.in_flight,
                node.picks,
            )
            before = self._seen.get(node, (0, 0, 0, 0.0))
            picks = max(picks, before[0])  # one may have been withdrawn
            ended = max(picks - in_flight, before[1])
            seen[node] = (picks, ended, errors, seconds)
            where = node.endpoint
            yield (
                Place(snapshot.cluster, where.locality, where.address, where.port),
                Counts(
                    picks - before[0],
                    ended - before[1],
                    errors - before[2],
                    in_flight,
                    seconds - before[3],
                ),
            )
        self._seen = seen
