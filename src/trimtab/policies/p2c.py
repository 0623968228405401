"""Power of two choices on the client's own in-flight requests.

Formula: draw two endpoints, take the one with the smaller cost; ties go to the first drawn. The first
    goes round all of them in a random order, anew each time; the second is any other one.
    cost = in_flight [requests] / weight [relative capacity, >= 1]
    cost = (in_flight / weight + 1) / share, where the two have different shares (``policies.shares``)
    Where both are idle the greater share always wins, so a client with one request at a time leaves one
    that failed alone until that is forgotten. To let chance give it its share then meets more failures: an
    endpoint that fails in part would go on getting a part of the requests.
Order: a client with little in flight meets ties only, and at random those make some endpoints busier than
others; in rounds each is first as often as any other (steps of a random size without a common divisor).
Weights: each draw is proportional to weight, so an idle client spreads in proportion, and a busy
one levels in-flight per capacity. With equal weights the two are distinct.
Source: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001; Finagle's
P2CLeastLoaded; gRFC A48.
Weakness: with fewer than about 0.3 requests in flight per client and endpoint it nears random. Rounds return to
an endpoint when what was sent there has ended, so beside uneven ones two random draws do better (docs/policies.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from random import Random

from trimtab.load_report import LoadReport
from trimtab.policies import Node, Outcome, Policy, register
from trimtab.policies.params import Params, Reader
from trimtab.policies.weighted import AliasTable, equal_weights


class P2C:
    """See the module."""

    divides_shares = True
    ignores_reports = True

    __slots__ = ("_at", "_left", "_n", "_nodes", "_random", "_step", "_table")

    def __init__(self, random: Random) -> None:
        self._random = random.random
        self._nodes: Sequence[Node] = ()
        self._n = 0
        self._at = self._step = self._left = 0
        self._table: AliasTable | None = None

    def update(self, nodes: Sequence[Node], now: float) -> None:
        """Replace the candidates; O(n)."""
        self._nodes = tuple(nodes)
        self._n = len(nodes)
        self._left = 0
        self._table = None if equal_weights(nodes) else AliasTable(self._nodes, self._random)

    def pick(self, now: float, key: str | None = None) -> Node:
        """O(1), whatever the number of endpoints."""
        n = self._n
        if self._table is not None:
            a, b = self._table.draw(), self._table.draw()
            if a.share != b.share:
                return self._by_share(a, b)
            lighter = a.in_flight * b.endpoint.weight <= b.in_flight * a.endpoint.weight
            return a if lighter else b
        if n == 1:
            return self._nodes[0]
        if self._left:
            i = self._at + self._step
            if i >= n:
                i -= n
            self._left -= 1
        else:
            i = self._begin_round(n)
        self._at = i
        j = int(self._random() * (n - 1))
        if j >= i:
            j += 1
        a, b = self._nodes[i], self._nodes[j]
        if a.share != b.share:
            return self._by_share(a, b)
        return a if a.in_flight <= b.in_flight else b

    def _begin_round(self, n: int) -> int:
        step = 1 + int(self._random() * (n - 1))
        while gcd(step, n) > 1:
            step = 1 + int(self._random() * (n - 1))
        self._step = step
        self._left = n - 1
        return int(self._random() * n)

    def _by_share(self, a: Node, b: Node) -> Node:
        # One more in flight than there is: an idle endpoint with a small share must cost more, too.
        x = (a.in_flight / a.endpoint.weight + 1.0) / a.share
        y = (b.in_flight / b.endpoint.weight + 1.0) / b.share
        return a if x <= y else b

    def done(
        self, node: Node, outcome: Outcome, latency: float, now: float, report: LoadReport | None
    ) -> None:
        """Nothing to learn: the balancer counts what is in flight."""

    def cost(self, node: Node, now: float) -> str:
        """For ``trimtab.debug``: the formula's, by share."""
        return f"{(node.in_flight / node.endpoint.weight + 1.0) / node.share:.2f}"


@register("p2c")
def build(params: Params, random: Random) -> Policy:
    """The factory."""
    Reader("p2c", params).close()
    return P2C(random)
