"""Power of two choices on latency times in-flight: peak EWMA.

Formula: cost = ewma [s] * (in_flight / weight + 1) / share; the smaller of two draws, in proportion to
    weight, and distinct where weights are equal.
    after a success: ewma = latency if latency > ewma (a peak counts at once), else
                     ewma += (1 - w) * (latency - ewma),  w = exp(-dt / decay_s)
    while it gets no answers: ewma * exp(-dt / decay_s), so that what was slow is tried again:
    within decay_s * ln(ratio) an endpoint that was ``ratio`` times slower costs as much as others.
    not seen yet: in-flight alone is compared.
    with probability explore the first draw is taken: each keeps a probing share of explore / n.
A failure is no sample: a fast one would look like speed.
Sources: Finagle's PeakEwma; tower's and linkerd's peak_ewma. The probing share answers traefik #12306
(an endpoint starved by one slow answer).
Weakness: on equal endpoints the noise of latencies makes it worse than plain in-flight.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from random import Random

from trimtab.load_report import LoadReport
from trimtab.policies import Node, Outcome, Policy, register
from trimtab.policies.params import Params, Reader
from trimtab.policies.weighted import AliasTable, equal_weights

_SAMPLES = frozenset({Outcome.SUCCESS, Outcome.ANSWERED, Outcome.TIMEOUT})


class P2CEwma:
    """See the module.

    Args:
        random: the source of randomness.
        decay_s: time constant [s].
        explore: probability of a choice without comparison, 0 to 1.
    """

    divides_shares = True
    ignores_reports = True
    __slots__ = ("_decay_s", "_explore", "_known", "_nodes", "_random", "_table")

    def __init__(self, random: Random, *, decay_s: float = 10.0, explore: float = 0.02) -> None:
        self._random = random.random
        self._decay_s = decay_s
        self._explore = explore
        self._known: dict[Node, tuple[float, float]] = {}  # ewma, as of
        self._nodes: Sequence[Node] = ()
        self._table: AliasTable | None = None

    def update(self, nodes: Sequence[Node], now: float) -> None:
        """Replace the candidates; what is known of those that stay is kept."""
        self._nodes = tuple(nodes)
        self._table = None if equal_weights(nodes) else AliasTable(self._nodes, self._random)
        self._known = {node: self._known[node] for node in nodes if node in self._known}

    def pick(self, now: float, key: str | None = None) -> Node:
        """O(1), whatever the number of endpoints."""
        n = len(self._nodes)
        if n == 1:
            return self._nodes[0]
        if self._table is not None:
            a, b = self._table.draw(), self._table.draw()
        else:
            x = self._random() * n
            i = int(x)
            j = int((x - i) * (n - 1))
            a, b = self._nodes[i], self._nodes[j + 1 if j >= i else j]
        if self._random() < self._explore:
            return a
        x = (a.in_flight / a.endpoint.weight + 1.0) / a.share
        y = (b.in_flight / b.endpoint.weight + 1.0) / b.share
        known, other = self._ewma(a, now), self._ewma(b, now)
        if known is not None and other is not None:  # else in-flight is all there is to compare
            x *= known
            y *= other
        return a if x <= y else b

    def done(
        self, node: Node, outcome: Outcome, latency: float, now: float, report: LoadReport | None
    ) -> None:
        """Learn the latency."""
        if outcome not in _SAMPLES:
            return
        known = self._known.get(node)
        if known is None or latency > known[0]:
            ewma = latency
        else:
            w = exp((known[1] - now) / self._decay_s)
            ewma = known[0] * w + latency * (1.0 - w)
        self._known[node] = (ewma, now)

    def _ewma(self, node: Node, now: float) -> float | None:
        known = self._known.get(node)
        return None if known is None else known[0] * exp((known[1] - now) / self._decay_s)

    def cost(self, node: Node, now: float) -> str:
        """For ``trimtab.debug``: the formula's."""
        known = self._ewma(node, now)
        if known is None:
            return ""
        return f"{known * (node.in_flight / node.endpoint.weight + 1.0) / node.share * 1e3:.1f} ms"


@register("p2c_ewma")
def build(params: Params, random: Random) -> Policy:
    """The factory."""
    read = Reader("p2c_ewma", params)
    made = P2CEwma(
        random,
        decay_s=read.number("decay_s", 10.0, 0.01, 3600.0),
        explore=read.number("explore", 0.02, 0.0, 1.0),
    )
    read.close()
    return made
