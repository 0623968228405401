"""Who has asked to be left alone: ``Retry-After``, gRPC's pushback.

Rules: an endpoint that asks for it is left alone for as long, REST_S at the most. Then KEPT of an equal
    part of the requests goes there, up to LONGEST_S after its last word. An answer to a request that began
    after it ends both: what was refused may have been one user's, or is over.
    At most max(1, MOST * n) of n endpoints are held so at once, never the last one; the others' refusals count
    in the error bias. Where more than half of all said so within LONGEST_S, the fault is not
    theirs (a quota of one user, too little of everything): nobody is held.
Why not for as long as is asked: it is one answer's word, and it may be about one caller. An endpoint that
means it says it again, and each word counts anew.
Weakness: an endpoint that is full for a minute refuses some requests meanwhile, a tenth of its part at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from trimtab.policies import Node
from trimtab.policies.shares import LEAST, Shares

REST_S = 1.0
LONGEST_S = 10.0
KEPT = 0.1
MOST = 0.2
_PANIC = 0.5


@dataclass(slots=True)
class Word:
    """What an endpoint asked for last.

    Attributes:
        said: when [s].
        rest: until when nothing goes there [s].
        until: when it is over [s].
        lifted: whether an answer has ended it; it still counts among those who said so.
    """

    said: float
    rest: float
    until: float
    lifted: bool = False


class Pushback:
    """See the module.

    Args:
        shares: where it is said who is held.
        random: which requests go to those who are.

    Attributes:
        words: of those who asked.
        held: who is left alone now.
    """

    __slots__ = ("_nodes", "_random", "_shares", "_there", "held", "words")

    def __init__(self, shares: Shares, random: Random) -> None:
        self._shares = shares
        self._random = random.random
        self._nodes: Sequence[Node] = ()
        self._there: frozenset[Node] = frozenset()
        self.words: dict[Node, Word] = {}
        self.held: frozenset[Node] = frozenset()

    def update(self, nodes: Sequence[Node]) -> None:
        """Replace the candidates; call ``judge`` next."""
        self._nodes = tuple(nodes)
        self._there = frozenset(nodes)

    def hear(self, node: Node, seconds: float, now: float) -> bool:
        """It asked to be left alone for so long [s]. Returns whether it is."""
        self.words[node] = Word(now, now + min(seconds, REST_S), now + min(seconds, LONGEST_S))
        self.judge(now)
        return node in self.held

    def answered(self, node: Node, began: float) -> bool:
        """It answered what began at that time, and did not fail it. Returns whether to call ``judge`` next."""
        word = self.words.get(node)
        if word is None or word.lifted or began < word.said:
            return False
        word.lifted = True
        return True

    def instead(self, node: Node, now: float) -> Node:
        """The one that was picked, or, at times, one of its zone that is held."""
        other = self._nodes[int(self._random() * len(self._nodes))]
        if (
            other in self.held
            and now >= self.words[other].rest
            and other.endpoint.locality.zone == node.endpoint.locality.zone
            and self._random() < KEPT
        ):
            return other
        return node

    def judge(self, now: float) -> None:
        """Say who is held; to be called now and then."""
        if not self.words:
            return
        n = len(self._nodes)
        self.words = {node: word for node, word in self.words.items() if now < word.until}
        most = min(n - 1, max(1, int(MOST * n)))
        there = [(node, word) for node, word in self.words.items() if node in self._there]
        if len(there) > _PANIC * n and n > 2:  # noqa: PLR2004 - of two, one may be the full one
            most = 0
        asking = [node for node, word in there if not word.lifted]
        held = frozenset(asking[: max(0, most)])
        for node in self.held - held:
            self._shares.set(node, "pushback", 1.0)
        for node in held - self.held:
            self._shares.set(node, "pushback", LEAST)
        self.held = held
