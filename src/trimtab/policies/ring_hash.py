"""Requests of one key go to one endpoint, unless it is overloaded: a ring with bounded load.

Rules: each endpoint has points on a ring, ``points`` * weight / unit of them, at hashes of its address and
    port, so that all clients agree. The unit is the power of two that is nearest to the mean weight: the mean
    itself would move with everyone who comes or goes, and so would everybody's points. A key goes to the first endpoint at or after its own
    hash that has fewer than ceil(bound * (in_flight of all + 1) / n) of our requests in flight; weights
    count there, too. A share below 1 (errors, pushback) lowers that limit.
    A request without a key goes by power of two choices.
    When an endpoint comes or goes, only keys next to its points move: about 1 / n of them, its part of all weight;
    more when the unit doubles or halves. One that is out for a while (ejected, silent) is passed by on the ring,
    which is the same and is not worth making a ring for.
Sources: Karger et al., "Consistent Hashing and Random Trees", 1997; Mirrokni, Thorup, Zadimoghaddam,
"Consistent Hashing with Bounded Loads", 2018.
Weakness: popular keys make unequal load; the bound is on this client's own in-flight, and it sends a
key elsewhere just when it is most wanted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from hashlib import blake2b
from math import ceil, log2
from random import Random

from trimtab.load_report import LoadReport
from trimtab.policies import Node, Outcome, Policy, register
from trimtab.policies.p2c import P2C
from trimtab.policies.params import Params, Reader

_MOST_POINTS = 1000  # of one endpoint


class RingHash:
    """See the module.

    Args:
        random: for requests without a key.
        points: of an endpoint whose weight is the unit, which is near the mean weight.
        bound: times the mean in-flight that an endpoint may have, above 1.
        hash_key: the metadata or header that holds a request's key; "": the caller says it
            (``trimtab.request_key``).
    """

    divides_shares = True
    ignores_reports = True
    __slots__ = ("_all_there", "_bound", "_hashes", "_in_flight", "_made_of", "_nodes", "_owners", "_p2c", "_points",
                 "_there", "_unit", "_until_counted", "_weight", "hash_key")  # fmt: skip

    def __init__(
        self, random: Random, *, points: int = 100, bound: float = 1.25, hash_key: str = ""
    ) -> None:
        self.hash_key = hash_key.lower()
        self._p2c = P2C(random)
        self._points = points
        self._bound = bound
        self._nodes: Sequence[Node] = ()
        self._there: frozenset[Node] = frozenset()
        self._made_of: dict[Node, int] = {}
        self._unit = 0.0
        self._all_there = True
        self._hashes: list[int] = []
        self._owners: list[Node] = []
        self._weight = 1.0
        self._in_flight = 0
        self._until_counted = 0

    def update(self, nodes: Sequence[Node], now: float) -> None:
        """Replace the candidates; O(n), and O(points * n) when there are others than before."""
        self._nodes = tuple(nodes)
        self._p2c.update(nodes, now)
        self._there = frozenset(self._nodes)
        self._weight = sum(node.endpoint.weight for node in nodes) / max(1, len(nodes))
        unit = 2.0 ** round(log2(self._weight)) if nodes else 0.0
        made_of = self._made_of
        if (
            unit != self._unit
            or len(made_of) > 2 * len(self._nodes)
            or any(made_of.get(node) != node.endpoint.weight for node in self._nodes)
        ):
            self._unit = unit
            self._make()
        self._all_there = len(self._made_of) == len(self._nodes)
        self._count()

    def _count(self) -> None:
        """Take what is in flight anew: not every choice of a request is its last, or even asked of this."""
        self._until_counted = len(self._nodes)
        self._in_flight = sum(node.in_flight for node in self._nodes)

    def _make(self) -> None:
        self._made_of = {node: node.endpoint.weight for node in self._nodes}
        ring: list[tuple[int, int]] = []
        for i, node in enumerate(self._nodes):
            n = min(_MOST_POINTS, max(1, round(self._points * node.endpoint.weight / self._unit)))
            ring.extend((point, i) for point in _points(node, n))
        ring.sort()
        self._hashes = [point for point, _ in ring]
        self._owners = [self._nodes[i] for _, i in ring]

    def pick(self, now: float, key: str | None = None) -> Node:
        """O(log n), and O(n) when many are at their bound."""
        self._until_counted -= 1
        if self._until_counted < 0:
            self._count()
        self._in_flight += 1
        if key is None:
            return self._p2c.pick(now)
        owners = self._owners
        at = bisect_left(self._hashes, hashed(key))
        mean = self._bound * self._in_flight / len(self._nodes) / self._weight
        there, absent = self._there, not self._all_there
        full: dict[Node, None] = {}  # in the order of the ring
        for i in range(at, at + len(owners)):
            node = owners[i % len(owners)]
            if node in full or (absent and node not in there):
                continue
            if node.in_flight < ceil(mean * node.endpoint.weight * node.share):
                return node
            full[node] = None
            if len(full) == len(self._nodes):
                break
        return next(iter(full))

    def done(
        self, node: Node, outcome: Outcome, latency: float, now: float, report: LoadReport | None
    ) -> None:
        """One less is in flight."""
        self._in_flight = max(0, self._in_flight - 1)


def hashed(key: str) -> int:
    """Where a key stands: 64 bits, the same in every process."""
    return int.from_bytes(blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest())


def _points(node: Node, n: int) -> list[int]:
    """An endpoint's places; eight from each digest."""
    found: list[int] = []
    for number in range(ceil(n / 8)):
        digest = blake2b(f"{node.endpoint.target}#{number}".encode(), digest_size=64).digest()
        found.extend(int.from_bytes(digest[i : i + 8]) for i in range(0, 64, 8))
    return found[:n]


@register("ring_hash")
def build(params: Params, random: Random) -> Policy:
    """The factory."""
    read = Reader("ring_hash", params)
    made = RingHash(
        random,
        points=read.whole("points", 100, 1, _MOST_POINTS),
        bound=read.number("bound", 1.25, 1.0, 1000.0),
        hash_key=read.text("hash_key", ""),
    )
    read.close()
    return made
