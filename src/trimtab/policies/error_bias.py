"""Bias away from endpoints that fail: a failing pod is fast, looks idle, and would draw traffic.

Formula: per endpoint a success rate r, 1 at first.
    after an attempt: r += gain * (ok - r)      ok is 1 (success, or an error of the caller's making)
                                                or 0 (failure, timeout, overload)
    while time passes: r = 1 - (1 - r) * exp(-dt / recovery_s)
    share = (r / mean)**exponent, at most 1     mean: of all candidates, so that a fault that all of
                                                them share moves no traffic
An overload that says when to come back (``Retry-After``, gRPC's pushback) is for ``pushback``, and counts here
where that doesn't hold its endpoint.
Sources: Netflix Zuul, go-zero and Kratos (success in the cost), linkerd's load biaser (which classes
count). The exponent is from our simulations, docs/results/policies.md.
Weakness: an endpoint that fails one request in a thousand is not seen; it needs several errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from random import Random

from trimtab.load_report import LoadReport
from trimtab.policies import Node, Outcome, Policy
from trimtab.policies.busy import Busy
from trimtab.policies.pushback import Pushback
from trimtab.policies.shares import LEAST, Shares

_FAILED = frozenset({Outcome.FAILURE, Outcome.UNREACHED, Outcome.TIMEOUT, Outcome.OVERLOADED})
_TICK_S = 0.1  # how often shares follow the recovery
_GOOD = 0.999  # from here on an endpoint counts as recovered


class ErrorBias:
    """Wraps a policy; see the module.

    Args:
        inner: picks.
        shares: where the bias is said.
        random: for ``pushback``.
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
        "_pushback",
        "_rates",
        "_recovery_s",
        "_shares",
        "inner",
    )  # fmt: skip

    def __init__(
        self,
        inner: Policy,
        shares: Shares,
        random: Random,
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
        self._pushback = Pushback(shares, random)
        self._n = 0
        self._due = 0.0
        self._busy = busy or Busy()

    def update(self, nodes: Sequence[Node], now: float) -> None:
        """Replace the candidates; what was learnt of those that left is forgotten in time."""
        self._n = len(nodes)
        self._pushback.update(nodes)
        if self._rates or self._pushback.words:
            self._judge(now)
        self.inner.update(nodes, now)

    def pick(self, now: float, key: str | None = None) -> Node:
        """The inner policy's choice, or one that is left alone, to see whether it still wants to be."""
        pushback = self._pushback
        if (self._rates or pushback.words) and now >= self._due:
            self._judge(now)
        node = self.inner.pick(now, key)
        # Where a key says who it is, that is not for chance to change.
        return pushback.instead(node, now) if pushback.held and key is None else node

    def done(
        self, node: Node, outcome: Outcome, latency: float, now: float, report: LoadReport | None
    ) -> None:
        """Move the success rate of the node."""
        if outcome in _FAILED:
            rest = None if report is None else report.retry_after
            held = bool(rest and self._pushback.hear(node, rest, now))
            if not held or outcome is not Outcome.OVERLOADED:
                self._rates[node] = ((1.0 - self._gain) * self._rate(node, now), now)
            self._judge(now)
        elif outcome is not Outcome.CANCELLED:
            if self._rates and node in self._rates:
                rate = self._rate(node, now)
                self._rates[node] = (rate + self._gain * (1.0 - rate), now)
            if self._pushback.words and self._pushback.answered(node, now - latency):
                self._judge(now)
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
        self._pushback.judge(now)
        self._busy.tell("error bias", bool(self._rates or self._pushback.words))
