"""Gives endpoints their share where the inner policy has no cost that a share could divide.

Formula: what the inner policy chose is taken with probability share; else it chooses once more, and
    that is taken. Round robin and random choice have no other way.
Source: admission probability, as in Twitter's and Linkerd's discussions of warm-up.
Weakness: a second choice may be as bad as the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from trimtab.load_report import LoadReport
from trimtab.policies import Node, Outcome, Policy, cost_of, described


class Gate:
    """Wraps a policy; see the module."""

    __slots__ = ("_inner", "_random")

    def __init__(self, inner: Policy, random: Random) -> None:
        self._inner = inner
        self._random = random.random

    def update(self, nodes: Sequence[Node], now: float) -> None:
        """Replace the candidates."""
        self._inner.update(nodes, now)

    def cost(self, node: Node, now: float) -> str:
        """See ``Policy``."""
        return cost_of(self._inner, node, now)

    def describe(self) -> str:
        """For ``trimtab.debug``: what the inner policy has to tell."""
        return described(self._inner)

    def pick(self, now: float, key: str | None = None) -> Node:
        """The inner policy's choice, if its share lets it."""
        node = self._inner.pick(now, key)
        if node.share < 1.0 and self._random() >= node.share:
            return self._inner.pick(now, key)
        return node

    def done(
        self, node: Node, outcome: Outcome, latency: float, now: float, report: LoadReport | None
    ) -> None:
        """Nothing to learn."""
        self._inner.done(node, outcome, latency, now, report)
