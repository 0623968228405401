"""A fair sequence in proportion to weights, O(log n) per step whatever the weights are.

Formula: earliest deadline first. Node i's turns are 1 / weight apart, from a random phase on, and the next
    is the node whose turn is due first. So of any sum(weights) turns in a row each node has exactly its
    weight, spread as evenly as can be.
Source: EDF scheduling as in Envoy's and gRPC's weighted round robin (gRFC A58 describes it beside the
    stride scheduler, which skips nodes: with one weight a thousand times the others' it skips n - 1 of n).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from random import Random

from trimtab.policies import Node

_LEAST = 1.0 / 65535  # of the heaviest's weight: nobody gets nothing (gRFC A58)
_REBASE = 2.0**20  # rounds of the heaviest after which times begin at 0 again, to stay exact


class Turns:
    """See the module.

    Args:
        nodes: at least one.
        weights: one for each, above 0.
        random: the phases, so that many clients don't march in step.
    """

    __slots__ = ("_apart", "_due", "_nodes")

    def __init__(self, nodes: Sequence[Node], weights: Sequence[float], random: Random) -> None:
        top = max(weights)
        self._nodes = nodes
        self._apart = [1.0 / max(weight / top, _LEAST) for weight in weights]
        self._due = [(random.random() * apart, i) for i, apart in enumerate(self._apart)]
        heapq.heapify(self._due)

    def next(self) -> Node:
        """The next in turn."""
        due, i = self._due[0]
        heapq.heapreplace(self._due, (due + self._apart[i], i))
        if due > _REBASE:
            # Less the same for all: the order stays, and so does the heap.
            self._due = [(at - due, j) for at, j in self._due]
        return self._nodes[i]
