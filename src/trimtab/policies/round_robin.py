"""Round robin, and smooth weighted round robin where weights differ.

Formula: with equal weights, a cycle from a random start, so that many clients don't march in step.
With unequal weights, nginx's smooth scheme: each turn every node's current value grows by its
weight, the largest is chosen and pays the sum of all weights; O(n) per pick.
Source: nginx ngx_http_upstream_round_robin.c (2012); gRPC round_robin for the random start.
Weakness: blind to load; a slow endpoint gets its full share.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from trimtab.load_report import LoadReport
from trimtab.policies import Node, Outcome, Policy, register
from trimtab.policies.params import Params, Reader
from trimtab.policies.weighted import equal_weights


class RoundRobin:
    """See the module."""

    ignores_reports = True

    __slots__ = ("_credit", "_equal", "_next", "_nodes", "_random", "_total")

    def __init__(self, random: Random) -> None:
        self._random = random
        self._nodes: Sequence[Node] = ()
        self._next = 0
        self._equal = True
        self._credit: list[int] = []
        self._total = 0

    def update(self, nodes: Sequence[Node], now: float) -> None:
        """Replace the candidates; the cycle begins anew at a random place."""
        self._nodes = tuple(nodes)
        self._next = self._random.randrange(len(nodes)) if nodes else 0
        self._equal = equal_weights(nodes)
        self._total = sum(node.endpoint.weight for node in nodes)
        self._credit = [self._random.randrange(self._total) for _ in nodes]

    def pick(self, now: float, key: str | None = None) -> Node:
        """The next in turn."""
        if self._equal:
            i = self._next
            self._next = i + 1 if i + 1 < len(self._nodes) else 0
            return self._nodes[i]
        credit = self._credit
        for i, node in enumerate(self._nodes):
            credit[i] += node.endpoint.weight
        best = max(range(len(credit)), key=credit.__getitem__)
        credit[best] -= self._total
        return self._nodes[best]

    def done(
        self, node: Node, outcome: Outcome, latency: float, now: float, report: LoadReport | None
    ) -> None:
        """Nothing to learn."""


@register("round_robin")
def build(params: Params, random: Random) -> Policy:
    """The factory."""
    Reader("round_robin", params).close()
    return RoundRobin(random)
