"""A new endpoint gets a small part of its fair share first: caches, pools and compilers are cold.

Rules: while an endpoint ramps, it is no candidate of the inner policy. Instead a request goes to it
    with probability share * weight / (weight of all), unless it has more of our requests in flight
    than another endpoint, drawn at random.
    share = floor + (1 - floor) * progress; progress grows by 1 in window_s, but goes back while its
    answers take over SLOW times as long as those of the others: the ramp is held by evidence.
    It ends after LONGEST windows in any case: what is slow then is slow, not cold.
    Where requests are divided over zones, each zone has its own: who is new there stands beside those of
    its zone, and no request leaves a zone for it (``policies.zones`` has the rule for zones that are all new).
    At most MOST of all ramp at once, or one; when more are new, those that are furthest are through. And
    floor = max(least, what leaves the old ones at most RELIEF times their fair share). So a quick
    rollout doesn't drown the few that are not new, and nothing happens when all are.
Age counts from the pod's own start where the control plane knows it, else from when this client
first saw it; those that were there before the client count as old (``Node.since``).
Sources: Envoy's slow start (10 % at first), Armeria's ramp (counted from the pod's birth), Netflix
Zuul (probation). Dividing the cost by the share starves and then floods, since a client's own in-flight
is nearly 0; a share of the requests is exact for any policy (docs/results/policies.md).
Weakness: a pod that is warm at once still waits for window_s; a client that sends it few requests has
little evidence and goes by the clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from trimtab.load_report import LoadReport
from trimtab.policies import Node, Outcome, Policy, cost_of, described
from trimtab.policies.busy import Busy

SLOW = 2.0
LONGEST = 3.0
RELIEF = 1.25
MOST = 0.2
LEAST = 0.1
_SAMPLES = 3  # answers, before they are evidence
_GAIN = 0.2  # of one answer, in an endpoint's mean latency
OTHERS_GAIN = 0.02
_STEPS = 100  # of one ramp


def first_share(least: float, total: float, new: float) -> float:
    """The part of its fair share that what is new begins with, so that the rest isn't drowned.

    Args:
        least: never below this, 0 to 1.
        total: capacity of all.
        new: of those that are new, above 0.
    """
    return min(1.0, max(least, (total - RELIEF * (total - new)) / new))


@dataclass(slots=True)
class Ramp:
    """One new endpoint.

    Attributes:
        progress: 0 to 1.
        latency: mean of its answers' [s].
        samples: answers.
    """

    progress: float
    latency: float = 0.0
    samples: int = 0


class SlowStart:
    """Wraps a policy; see the module.

    Args:
        inner: picks among those that don't ramp.
        random: who gets the request.
        window_s: the ramp's length [s], above 0.
        least: the share at its beginning, above 0 and up to 1.
        busy: told while somebody ramps.
        judge: by this name.

    Attributes:
        mean: latency of those that don't [s]; each success moves it by OTHERS_GAIN. 0: none yet.
    """

    __slots__ = ("_busy", "_chance", "_due", "_judge", "_judged", "_least", "_nodes", "_old", "_ramps", "_random",
                 "_shares", "_total", "_window_s", "inner", "mean")  # fmt: skip

    def __init__(
        self,
        inner: Policy,
        random: Random,
        *,
        window_s: float = 10.0,
        least: float = LEAST,
        busy: Busy | None = None,
        judge: str = "slow start",
    ) -> None:
        self.inner = inner
        self._random = random.random
        self._window_s = window_s
        self._least = least
        self._nodes: Sequence[Node] = ()
        self._old: Sequence[Node] = ()
        self._ramps: dict[Node, Ramp] = {}
        self._shares: list[tuple[float, Node]] = []
        self._chance = 0.0
        self._total = 1
        self.mean = 0.0
        self._busy = busy or Busy()
        self._judge = judge
        self._due = self._judged = 0.0

    @property
    def ramping(self) -> dict[Node, float]:
        """Who ramps, and how far: 0 to 1."""
        return {node: ramp.progress for node, ramp in self._ramps.items()}

    def cost(self, node: Node, now: float) -> str:
        """See ``Policy``."""
        return cost_of(self.inner, node, now)

    def describe(self) -> str:
        """For ``trimtab.debug``: what the inner policy has to tell."""
        return described(self.inner)

    def update(self, nodes: Sequence[Node], now: float) -> None:
        """Replace the candidates."""
        self._advance(now)
        self._nodes = tuple(nodes)
        self._total = sum(node.endpoint.weight for node in nodes)
        known = self._ramps
        self._ramps = {}
        for node in nodes:
            age = now - node.since
            if age < self._window_s or (node in known and age < LONGEST * self._window_s):
                self._ramps[node] = known.get(node) or Ramp(max(0.0, age / self._window_s))
        self._part(now)

    def pick(self, now: float, key: str | None = None) -> Node:
        """A ramping endpoint at times, else the inner policy's choice."""
        if self._ramps:
            if now >= self._due:
                self._advance(now)
                self._end(now)
            x = self._random()
            if x < self._chance:
                for share, node in self._shares:
                    x -= share
                    if x < 0.0:
                        other = self._old[int(self._random() * len(self._old))]
                        if node.in_flight <= other.in_flight:
                            return node
                        break
        return self.inner.pick(now, key)

    def done(
        self, node: Node, outcome: Outcome, latency: float, now: float, report: LoadReport | None
    ) -> None:
        """Compare latencies."""
        if outcome is Outcome.SUCCESS:
            ramp = self._ramps.get(node) if self._ramps else None
            if ramp is None:
                self.mean += OTHERS_GAIN * (latency - self.mean) if self.mean else latency
            else:
                ramp.latency += _GAIN * (latency - ramp.latency) if ramp.samples else latency
                ramp.samples += 1
        self.inner.done(node, outcome, latency, now, report)

    def _advance(self, now: float) -> None:
        step = (now - self._judged) / self._window_s
        self._judged = now
        self._due = now + self._window_s / _STEPS
        for ramp in self._ramps.values():
            cold = ramp.samples >= _SAMPLES and ramp.latency > SLOW * self.mean
            ramp.progress = max(0.0, min(1.0, ramp.progress + (-step if cold else step)))
        self._weigh()

    def _end(self, now: float) -> None:
        longest = LONGEST * self._window_s
        over = [n for n, r in self._ramps.items() if r.progress >= 1.0 or now - n.since >= longest]
        if over:
            for node in over:
                del self._ramps[node]
            self._part(now)

    def _part(self, now: float) -> None:
        """Divide the old from the new."""
        if len(self._ramps) == len(self._nodes):
            self._ramps.clear()
        ramps = self._ramps
        most = max(1, int(MOST * len(self._nodes)))
        if len(ramps) > most:
            through = sorted(ramps, key=lambda node: ramps[node].progress, reverse=True)[:-most]
            for node in through:
                del ramps[node]
        self._old = [n for n in self._nodes if n not in ramps] if ramps else self._nodes
        self._weigh()
        self.inner.update(self._old, now)

    def _weigh(self) -> None:
        self._busy.tell(self._judge, bool(self._ramps))
        if not self._ramps:
            self._shares, self._chance = [], 0.0
            return
        total = self._total
        new = sum(node.endpoint.weight for node in self._ramps)
        floor = first_share(self._least, total, new)
        self._shares = [
            ((floor + (1.0 - floor) * ramp.progress) * node.endpoint.weight / total, node)
            for node, ramp in self._ramps.items()
        ]
        self._chance = sum(share for share, _ in self._shares)
