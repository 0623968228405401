"""Constant-time sampling in proportion to endpoint weights.

Vose's alias method (M. D. Vose, 1991): n cells of equal width, each holding at most two nodes,
make one draw O(1) whatever the number of nodes or the spread of weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trimtab.policies import Node


class AliasTable:
    """Draw nodes with probability weight / sum of weights.

    Args:
        nodes: at least one; the weights are read once, from ``node.endpoint.weight``.
        random: returns a float in [0, 1).
    """

    __slots__ = ("_alias", "_keep", "_n", "_nodes", "_random")

    def __init__(self, nodes: Sequence[Node], random: Callable[[], float]) -> None:
        n = len(nodes)
        total = sum(node.endpoint.weight for node in nodes)
        scaled = [node.endpoint.weight * n / total for node in nodes]
        self._nodes = nodes
        self._n = n
        self._random = random
        self._keep = [1.0] * n
        self._alias = list(range(n))
        small = [i for i, p in enumerate(scaled) if p < 1.0]
        large = [i for i, p in enumerate(scaled) if p >= 1.0]
        while small and large:
            lesser, greater = small.pop(), large[-1]
            self._keep[lesser] = scaled[lesser]
            self._alias[lesser] = greater
            scaled[greater] -= 1.0 - scaled[lesser]
            if scaled[greater] < 1.0:
                small.append(large.pop())

    def draw(self) -> Node:
        """One node; one random number serves both the cell and the choice within it."""
        x = self._random() * self._n
        cell = int(x)
        return self._nodes[cell if x - cell < self._keep[cell] else self._alias[cell]]


def equal_weights(nodes: Sequence[Node]) -> bool:
    """Whether sampling may ignore weights."""
    if not nodes:
        return True
    first = nodes[0].endpoint.weight
    return all(node.endpoint.weight == first for node in nodes)
