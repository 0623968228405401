"""Power of two choices on the client's own in-flight requests.

Formula: draw two endpoints, take the one with the smaller cost; ties go to the first drawn.
    cost = in_flight [requests] / weight [relative capacity, >= 1]
Weights: each draw is proportional to weight, so an idle client spreads in proportion, and a busy
one levels in-flight per capacity. With equal weights the two are distinct.
Source: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001; Finagle's
P2CLeastLoaded; gRFC A48.
Weakness: with fewer than about 0.3 requests in flight per client and endpoint it nears random.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from trimtab.load_report import LoadReport
from trimtab.policies import Node, Outcome, Params, Policy, refuse_params, register
from trimtab.policies.weighted import AliasTable, equal_weights


class P2C:
    """See the module."""

    __slots__ = ("_n", "_nodes", "_random", "_table")

    def __init__(self, random: Random) -> None:
        self._random = random.random
        self._nodes: Sequence[Node] = ()
        self._n = 0
        self._table: AliasTable | None = None

    def update(self, nodes: Sequence[Node], now: float) -> None:  # noqa: ARG002
        """Replace the candidates; O(n)."""
        self._nodes = tuple(nodes)
        self._n = len(nodes)
        self._table = None if equal_weights(nodes) else AliasTable(self._nodes, self._random)

    def pick(self, now: float) -> Node:  # noqa: ARG002
        """O(1), whatever the number of endpoints."""
        n = self._n
        if self._table is not None:
            a, b = self._table.draw(), self._table.draw()
            lighter = a.in_flight * b.endpoint.weight <= b.in_flight * a.endpoint.weight
            return a if lighter else b
        if n == 1:
            return self._nodes[0]
        # One random number serves both draws: the remainder of the first is as uniform as it was,
        # 53 bits are plenty for two indices.
        x = self._random() * n
        i = int(x)
        j = int((x - i) * (n - 1))
        if j >= i:
            j += 1
        a, b = self._nodes[i], self._nodes[j]
        return a if a.in_flight <= b.in_flight else b

    def done(
        self, node: Node, outcome: Outcome, latency: float, now: float, report: LoadReport | None
    ) -> None:
        """Nothing to learn: the balancer counts what is in flight."""


@register("p2c")
def build(params: Params, random: Random) -> Policy:
    """The factory."""
    refuse_params("p2c", params)
    return P2C(random)
