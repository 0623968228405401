"""Whom a door may probe now: few at once, one at a time per endpoint, not those that don't answer. Pure.

A probe is an aid. One that fails is nobody's error; the endpoint is left in peace for a while, for
long where its server has no such method, and the policy does without its answer.
"""

from __future__ import annotations

from collections.abc import Iterable

from trimtab.balancer import Node
from trimtab.client.links import Link

TIMEOUT_S = 0.25  # an answer that is older says little
MOST = 32  # probes under way
_PAUSE_S = 1.0  # after the first failure in a row; doubles
_LONGEST_S = 60.0
_REMEMBERED = 256


class Probing:
    """What is under way, and who is left in peace. For one thread, or under a lock."""

    def __init__(self) -> None:
        self._under_way: set[Node] = set()
        self._failed: dict[Node, tuple[int, float]] = {}  # times in a row, until when

    def admit(self, nodes: Iterable[Node], now: float) -> list[Node]:
        """Those of ``nodes`` to ask now [s]; each is to be ended by ``answered`` or ``failed``."""
        admitted: list[Node] = []
        for node in nodes:
            if len(self._under_way) >= MOST:
                break
            link: Link | None = node.transport
            if link is None or link.leaving or not node.connected or node in self._under_way:
                continue
            if self._failed and now < self._failed.get(node, (0, now))[1]:
                continue
            self._under_way.add(node)
            admitted.append(node)
        return admitted

    def answered(self, node: Node) -> None:
        """It said its load."""
        self._under_way.discard(node)
        self._failed.pop(node, None)

    def failed(self, node: Node, now: float, *, for_good: bool = False) -> None:
        """It did not; ``for_good``: its server has no such method."""
        self._under_way.discard(node)
        if len(self._failed) >= _REMEMBERED:
            self._failed = {n: f for n, f in self._failed.items() if n.usable and f[1] > now}
        times = self._failed.get(node, (0, 0.0))[0] + 1
        pause = _LONGEST_S if for_good else min(_LONGEST_S, _PAUSE_S * 2.0 ** min(times - 1, 10))
        self._failed[node] = (times, now + pause)
