"""What part of its fair share each endpoint should get, as several judges see it.

Error bias, pushback and the like each give a number in (0, 1]; the product stands in
``node.share``, where policies read it. Only endpoints with a share below 1 cost anything.
"""

from __future__ import annotations

from math import prod

from trimtab.policies import Node

LEAST = 0.01  # nobody is starved for good: what gets no request can't show that it is well


class Shares:
    """Keeps ``node.share`` equal to the product of what the judges said last."""

    __slots__ = ("_below",)

    def __init__(self) -> None:
        self._below: dict[Node, dict[str, float]] = {}

    def set(self, node: Node, judge: str, share: float) -> None:
        """Say a node's share, in one judge's eyes; 1 takes the judgement back."""
        said = self._below.get(node)
        if share >= 1.0:
            if said is None or said.pop(judge, None) is None:
                return
            if not said:
                del self._below[node]
                node.share = 1.0
                return
        elif said is None:
            said = self._below[node] = {judge: share}
        else:
            said[judge] = share
        node.share = max(LEAST, prod(said.values()))

    def forget(self) -> None:
        """Take all judgements back."""
        for node in self._below:
            node.share = 1.0
        self._below.clear()
