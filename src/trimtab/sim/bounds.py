"""What no client can know: the true state of every pod, at the moment of the choice.

Rule: the pod with the least expected delay, slow x max(1, (outstanding + 1) / workers), where
    outstanding counts what all clients sent and the pod has not ended, messages on their way included.
    Pods that are gone or fail are left out while there are others. Equal ones are drawn at random.
    With equal pods that is join-shortest-queue, with unequal ones shortest expected delay.
Source: Winston, "Optimality of the shortest line discipline", 1977 (equal pods, exponential times).
Weakness: none can build it; it is there to show how much is left to gain.
"""

from __future__ import annotations

from random import Random

from trimtab.balancer import Change, Node
from trimtab.errors import NoEndpoints
from trimtab.load_report import LoadReport
from trimtab.model import Snapshot
from trimtab.policies import Outcome
from trimtab.sim.server import Server

LABEL = "JSQ, global knowledge"
_LOOK_AGAIN = 256  # picks after which the quickest pod is looked for anew


class Claim:
    """A choice. The pod itself counts, so its end changes nothing."""

    __slots__ = ("node",)

    def __init__(self, node: Node) -> None:
        self.node = node

    def finish(self, outcome: Outcome, report: LoadReport | None = None) -> None:
        """Nothing to learn."""


class GlobalKnowledge:
    """In place of a balancer; see the module. All clients may share one."""

    probing = False

    def __init__(self, random: Random) -> None:
        self._random = random.random
        self._nodes: dict[tuple[str, int], Node] = {}
        self._claims: list[tuple[Server, Claim]] = []
        self._least = 0.0
        self._picks = 0

    def update(self, snapshot: Snapshot) -> Change:
        """Take a new snapshot; a pod with a new UID is another one."""
        added: list[Node] = []
        nodes: dict[tuple[str, int], Node] = {}
        for endpoint in snapshot.usable():
            node = self._nodes.get(endpoint.key)
            if node is None or node.endpoint.uid != endpoint.uid:
                node = Node(endpoint)
                added.append(node)
            nodes[endpoint.key] = node
        removed = [n for k, n in self._nodes.items() if nodes.get(k) is not n]
        self._nodes = nodes
        self._claims = []  # the new nodes' servers are not known yet
        return Change(tuple(added), tuple(removed))

    def pick(self) -> Claim:
        """The pod with the least expected delay.

        Raises:
            NoEndpoints: there is none.
        """
        if not self._claims or self._picks % _LOOK_AGAIN == 0:
            self._look()
        self._picks += 1
        claims, n = self._claims, len(self._claims)
        start = int(self._random() * n)
        best, found = 0.0, None
        for i in range(start - n, start):
            server, claim = claims[i]
            if server.gone or server.failing:
                continue
            ahead = (server.sent - server.served - server.failed + 1) / server.workers
            cost = server.slow * ahead if ahead > 1.0 else server.slow
            if found is None or cost < best:
                best, found = cost, claim
                if cost <= self._least:  # nobody can be quicker
                    break
        return found or claims[start][1]

    def _look(self) -> None:
        self._claims = [(node.transport, Claim(node)) for node in self._nodes.values()]
        if not self._claims:
            raise NoEndpoints("sim: the service has no endpoints")
        self._least = min(server.slow for server, _ in self._claims)

    def take_probes(self) -> list[Node]:
        """It needs none."""
        return []

    def probed(self, node: Node, report: LoadReport) -> None:
        """None was sent."""
