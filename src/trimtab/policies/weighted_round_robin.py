"""Round robin in proportion to weights that the servers' load reports give.

Formula: weight = rps / (utilization + eps / rps * error_penalty) * endpoint weight
    utilization: application_utilization, else cpu_utilization; an endpoint without a usable report, in
    its first blackout_s of reports, or with none for expiry_s gets the mean of the others. Weights are
    taken anew every update_s. Without any report it goes by the endpoints' own weights.
Source: gRFC A58 (weights, times).
Weakness: rps / utilization is the cost of a request, the same for two equal servers even if one of
them has twice the load; it lags by seconds, and it can't see in-flight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from trimtab.load_report import LoadReport
from trimtab.policies import Node, Outcome, Policy, register
from trimtab.policies.params import Params, Reader
from trimtab.policies.turns import Turns

_MOST = 2.0  # times the fair share: a report that lies attracts no more than that


@dataclass(slots=True)
class Reported:
    """What an endpoint's reports say.

    Attributes:
        weight: of the last usable one.
        first: when the first one came, after which the blackout runs.
        last: when the last one came.
    """

    weight: float
    first: float
    last: float


class WeightedRoundRobin:
    """See the module.

    Args:
        random: where the sequence begins.
        blackout_s: how long first reports are not believed [s].
        expiry_s: how long a report is good [s].
        update_s: how often weights are taken anew [s].
        error_penalty: how much an error rate counts against utilization.
    """

    __slots__ = ("_blackout_s", "_due", "_error_penalty", "_expiry_s", "_nodes", "_random",
                 "_reported", "_turns", "_update_s")  # fmt: skip

    def __init__(
        self,
        random: Random,
        *,
        blackout_s: float = 10.0,
        expiry_s: float = 180.0,
        update_s: float = 1.0,
        error_penalty: float = 1.0,
    ) -> None:
        self._random = random
        self._blackout_s = blackout_s
        self._expiry_s = expiry_s
        self._update_s = update_s
        self._error_penalty = error_penalty
        self._nodes: Sequence[Node] = ()
        self._reported: dict[Node, Reported] = {}
        self._turns: Turns | None = None
        self._due = 0.0

    def update(self, nodes: Sequence[Node], now: float) -> None:
        """Replace the candidates; what those that stay reported is kept."""
        self._nodes = tuple(nodes)
        self._reported = {node: self._reported[node] for node in nodes if node in self._reported}
        self._weigh(now)

    def pick(self, now: float, key: str | None = None) -> Node:
        """The next in turn."""
        if self._turns is None or (self._reported and now >= self._due):
            self._weigh(now)
        assert self._turns is not None  # noqa: S101 - there is at least one candidate
        return self._turns.next()

    def done(
        self,
        node: Node,
        outcome: Outcome,
        latency: float,
        now: float,
        report: LoadReport | None,
    ) -> None:
        """Keep the report."""
        if report is None:
            return
        utilization = report.application_utilization or report.cpu_utilization
        if utilization <= 0.0 or report.rps <= 0.0:
            return
        weight = report.rps / (utilization + report.eps / report.rps * self._error_penalty)
        known = self._reported.get(node)
        if known is None or now - known.last >= self._expiry_s:
            self._reported[node] = Reported(weight, now, now)
        else:
            known.weight, known.last = weight, now

    def _weigh(self, now: float) -> None:
        self._due = now + self._update_s
        if not self._nodes:
            self._turns = None
            return
        weights: dict[Node, float] = {}
        for node, said in self._reported.items():
            if now - said.first >= self._blackout_s and now - said.last < self._expiry_s:
                weights[node] = said.weight
        most = _bound(list(weights.values()))
        weights = {node: min(weight, most) for node, weight in weights.items()}
        mean = sum(weights.values()) / len(weights) if len(weights) > 1 else 0.0
        self._turns = Turns(
            self._nodes,
            [
                (weights.get(node, mean) if mean else 1.0) * node.endpoint.weight
                for node in self._nodes
            ],
            self._random,
        )


def _bound(weights: list[float]) -> float:
    """The largest weight that is at most ``_MOST`` times the mean, once larger ones are cut to it."""
    rest = sum(weights)
    n = len(weights)
    for cut, weight in enumerate(sorted(weights, reverse=True)):
        if n <= _MOST * cut:
            break
        bound = _MOST * rest / (n - _MOST * cut)
        if weight <= bound:
            return bound
        rest -= weight
    return math.inf  # of two, either may have all but nothing


@register("weighted_round_robin")
def build(params: Params, random: Random) -> Policy:
    """The factory."""
    read = Reader("weighted_round_robin", params)
    made = WeightedRoundRobin(
        random,
        blackout_s=read.number("blackout_s", 10.0, 0.0, 3600.0),
        expiry_s=read.number("expiry_s", 180.0, 1.0, 86400.0),
        update_s=read.number("update_s", 1.0, 0.01, 3600.0),
        error_penalty=read.number("error_penalty", 1.0, 0.0, 1000.0),
    )
    read.close()
    return made
