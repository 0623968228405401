"""An endpoint at random, in proportion to weight. Registered as ``random``.

The yardstick that a strategy has to beat: with 20,000 requests over 8 endpoints its max/mean is
1.03-1.08. The file is not called random.py so that no import can mean the wrong one.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from trimtab.load_report import LoadReport
from trimtab.policies import Node, Outcome, Policy, register
from trimtab.policies.params import Params, Reader
from trimtab.policies.weighted import AliasTable, equal_weights


class RandomPick:
    """See the module."""

    ignores_reports = True

    __slots__ = ("_n", "_nodes", "_random", "_table")

    def __init__(self, random: Random) -> None:
        self._random = random.random
        self._nodes: Sequence[Node] = ()
        self._n = 0
        self._table: AliasTable | None = None

    def update(self, nodes: Sequence[Node], now: float) -> None:
        """Replace the candidates; O(n)."""
        self._nodes = tuple(nodes)
        self._n = len(nodes)
        self._table = None if equal_weights(nodes) else AliasTable(self._nodes, self._random)

    def pick(self, now: float, key: str | None = None) -> Node:
        """O(1)."""
        if self._table is not None:
            return self._table.draw()
        return self._nodes[int(self._random() * self._n)]

    def done(
        self, node: Node, outcome: Outcome, latency: float, now: float, report: LoadReport | None
    ) -> None:
        """Nothing to learn."""


@register("random")
def build(params: Params, random: Random) -> Policy:
    """The factory."""
    Reader("random", params).close()
    return RandomPick(random)
