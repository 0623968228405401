"""The way past error bias and slow start while neither has anything to say, which is nearly always.

They cost more than the choice itself: after a blocking call has waited, each function is cold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from trimtab.load_report import LoadReport
from trimtab.policies import Node, Outcome, Policy
from trimtab.policies.slow_start import OTHERS_GAIN


class Judge(Protocol):
    """One that says whether it has anything to say."""

    busy: bool


class Ramping(Judge, Protocol):
    """Slow start, which goes on learning what is usual."""

    mean: float


class Absent:
    """Stands for a judge that there isn't."""

    __slots__ = ("busy", "mean")

    def __init__(self) -> None:
        self.busy = False
        self.mean = 0.0


class Shortcut:
    """See the module.

    Args:
        outer: the judges around the policy.
        bias: one of them, or ``Absent``.
        ramping: likewise.
        chosen: the policy within.

    Attributes:
        chosen: the policy; whoever replaces it in the judges does so here.
    """

    __slots__ = ("_bias", "_outer", "_ramping", "chosen")

    def __init__(self, outer: Policy, bias: Judge, ramping: Ramping, chosen: Policy) -> None:
        self._outer = outer
        self._bias = bias
        self._ramping = ramping
        self.chosen = chosen

    def update(self, nodes: Sequence[Node], now: float) -> None:
        """Replace the candidates."""
        self._outer.update(nodes, now)

    def pick(self, now: float, key: str | None = None) -> Node:
        """What the judges and the policy pick."""
        if self._bias.busy or self._ramping.busy:
            return self._outer.pick(now, key)
        return self.chosen.pick(now, key)

    def done(
        self, node: Node, outcome: Outcome, latency: float, now: float, report: LoadReport | None
    ) -> None:
        """What they learn: of a success, while all is well, slow start learns what is usual."""
        ramping = self._ramping
        if outcome is not Outcome.SUCCESS or self._bias.busy or ramping.busy:
            self._outer.done(node, outcome, latency, now, report)
            return
        mean = ramping.mean
        ramping.mean = mean + OTHERS_GAIN * (latency - mean) if mean else latency
        self.chosen.done(node, outcome, latency, now, report)
