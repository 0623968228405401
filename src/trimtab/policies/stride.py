"""A fair sequence in proportion to weights, O(1) per step on average.

Static stride scheduling as in gRFC A58: weights are scaled to 1..TOP; the sequence goes round and
round, and a node is skipped in those rounds that its weight doesn't entitle it to. Each node's round
begins at an offset of its own, so that equal weights don't fire together. Rounds without any node
can't occur: the heaviest is never skipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from trimtab.policies import Node

_TOP = 65535  # as in gRFC A58


class Stride:
    """See the module.

    Args:
        nodes: at least one.
        weights: one for each, above 0.
        random: where the sequence begins.
    """

    __slots__ = ("_at", "_n", "_nodes", "_offset", "_weights")

    def __init__(self, nodes: Sequence[Node], weights: Sequence[float], random: Random) -> None:
        top = max(weights)
        self._nodes = nodes
        self._n = len(nodes)
        # A node of a 65535th of the heaviest's weight is the least there is; nobody gets nothing.
        self._weights = [max(1, round(_TOP * weight / top)) for weight in weights]
        self._offset = [random.randrange(_TOP) for _ in nodes]
        self._at = random.randrange(self._n * _TOP)

    def next(self) -> Node:
        """The next in turn."""
        while True:
            turn, i = divmod(self._at, self._n)
            self._at += 1
            weight = self._weights[i]
            if weight == _TOP or (weight * turn + self._offset[i]) % _TOP >= _TOP - weight:
                return self._nodes[i]
