"""Round robin, in proportion to the endpoints' weights where these differ.

Formula: with equal weights, a cycle from a random start, so that many clients don't march in step; with
unequal ones, earliest deadline first (``turns.py``).
Source: gRPC round_robin for the random start.
Weakness: blind to load; a slow endpoint gets its full share.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from trimtab.load_report import LoadReport
from trimtab.policies import Node, Outcome, Policy, register
from trimtab.policies.params import Params, Reader
from trimtab.policies.turns import Turns
from trimtab.policies.weighted import equal_weights


class RoundRobin:
    """See the module."""

    ignores_reports = True

    __slots__ = ("_next", "_nodes", "_random", "_turns")

    def __init__(self, random: Random) -> None:
        self._random = random
        self._nodes: Sequence[Node] = ()
        self._next = 0
        self._turns: Turns | None = None

    def update(self, nodes: Sequence[Node], now: float) -> None:
        """Replace the candidates; the cycle begins anew at a random place."""
        self._nodes = tuple(nodes)
        self._next = self._random.randrange(len(nodes)) if nodes else 0
        self._turns = None
        if not equal_weights(nodes):
            weights = [node.endpoint.weight for node in nodes]
            self._turns = Turns(self._nodes, weights, self._random)

    def pick(self, now: float, key: str | None = None) -> Node:
        """The next in turn."""
        if self._turns is not None:
            return self._turns.next()
        i = self._next
        self._next = i + 1 if i + 1 < len(self._nodes) else 0
        return self._nodes[i]

    def done(
        self, node: Node, outcome: Outcome, latency: float, now: float, report: LoadReport | None
    ) -> None:
        """Nothing to learn."""


@register("round_robin")
def build(params: Params, random: Random) -> Policy:
    """The factory."""
    Reader("round_robin", params).close()
    return RoundRobin(random)
