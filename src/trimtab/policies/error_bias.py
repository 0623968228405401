"""Bias away from endpoints that fail: a failing pod is fast, looks idle, and would draw traffic.

Formula: per endpoint a success rate r, 1 at first.
    after an attempt: r += gain * (ok - r)      ok is 1 (success, or an error of the caller's making)
                                                or 0 (failure, timeout, overload)
    while time passes: r = 1 - (1 - r) * exp(-dt / recovery_s)
    share = (r / mean)**exponent, at most 1     mean: of all candidates, so that a fault that all of
                                                them share moves no traffic
``Retry-After`` and gRPC's pushback set the share to its least until they have passed.
Sources: Netflix Zuul, go-zero and Kratos (success in the cost), linkerd's load biaser (which classes
count). The exponent is from our simulations, docs/results/policies.md.
Weakness: an endpoint that fails one request in a thousand is not seen; it needs several errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

from trimtab.load_report import LoadReport
from trimtab.policies import Node, Outcome, Policy
from trimtab.policies.busy import Busy
from trimtab.policies.shares import LEAST, Shares

_FAILED = frozenset({Outcome.FAILURE, Outcome.UNREACHED, Outcome.TIMEOUT, Outcome.OVERLOADED})
_TICK_S = 0.1  # how often shares follow the recovery
_GOOD = 0.999  # from here on an endpoint counts as recovered
_PUSHBACK_MAX_S = 300.0  # linkerd's bound too


class ErrorBias:
    """Wraps a policy; see the module.

    Args:
        inner: picks.
        shares: where the bias is said.
        exponent: how strongly a low success rate cuts the share, >= 0.
        gain: weight of one attempt in the success rate, 0 to 1.
        recovery_s: time constant of forgetting [s].
        busy: told while somebody's share is below 1; without that there is nothing to say or to learn of
            successes.
    """

    __slots__ = (
        "_busy",
        "_due",
        "_exponent",
        "_gain",
        "_n",
        "_pushed",
        "_rates",
        "_recovery_s",
        "_shares",
        "inner",
    )  # fmt: skip

    def __init__(
        self,
        inner: Policy,
        shares: Shares,
        *,
        exponent: float = 8.0,
        gain: float = 0.1,
        recovery_s: float = 2.5,
        busy: Busy | None = None,
    ) -> None:
        self.inner = inner
        self._shares = shares
        self._exponent = exponent
        self._gain = gain
        self._recovery_s = recovery_s
        self._rates: dict[Node, tuple[float, float]] = {}  # success rate, as of; below 1 only
        self._pushed: dict[Node, float] = {}  # until when it wants to be left alone
        self._n = 0
        self._due = 0.0
        self._busy = busy or Busy()

    def update(self, nodes: Sequence[Node], now: float) -> None:
        """Replace the candidates; what was learnt of those that left is forgotten in time."""
        self._n = len(nodes)
        self.inner.update(nodes, now)

    def pick(self, now: float, key: str | None = None) -> Node:
        """The inner policy's choice."""
        if (self._rates or self._pushed) and now >= self._due:
            self._judge(now)
        return self.inner.pick(now, key)

    def done(
        self, node: Node, outcome: Outcome, latency: float, now: float, report: LoadReport | None
    ) -> None:
        """Move the success rate of the node."""
        if outcome in _FAILED:
            if report is not None and report.retry_after:
                self._pushed[node] = now + min(report.retry_after, _PUSHBACK_MAX_S)
            self._rates[node] = ((1.0 - self._gain) * self._rate(node, now), now)
            self._judge(now)
        elif self._rates and node in self._rates and outcome is not Outcome.CANCELLED:
            rate = self._rate(node, now)
            self._rates[node] = (rate + self._gain * (1.0 - rate), now)
        self.inner.done(node, outcome, latency, now, report)

    def _rate(self, node: Node, now: float) -> float:
        rate, then = self._rates.get(node, (1.0, now))
        return 1.0 - (1.0 - rate) * exp((then - now) / self._recovery_s)

    def _judge(self, now: float) -> None:
        self._due = now + _TICK_S
        rates = {node: self._rate(node, now) for node in self._rates}
        missing = sum(1.0 - rate for rate in rates.values())
        mean = max(1.0 - missing / max(self._n, len(rates), 1), LEAST)
        for node, rate in rates.items():
            if rate >= _GOOD:
                del self._rates[node]
                self._shares.set(node, "errors", 1.0)
            else:
                share = min(1.0, (rate / mean) ** self._exponent)
                self._shares.set(node, "errors", max(share, LEAST))
        for node, until in list(self._pushed.items()):
            if now >= until:
                del self._pushed[node]
            self._shares.set(node, "pushback", 1.0 if now >= until else LEAST)
        self._busy.tell("error bias", bool(self._rates or self._pushed))
