"""Take an endpoint out for a while when it fails again and again.

Rules: it is ejected after ``consecutive`` failures in a row, or when of at least ``volume`` attempts
    since its first failure, ``window_s`` ago at the most, the part ``failed`` failed. It stays out for
    base_s * 2**(times - 1), at most ``longest_s``; then it is on probation for as long: one failure
    ejects it again, for longer. A time in peace of that length takes one of the times back.
    At most max(1, part * n) of n endpoints are out at once, never the last one. Where more than half
    of all would deserve it, or more than half of those that are left when others go are out, the fault is
    not theirs: nobody is ejected and all come back (panic).
Sources: Envoy's outlier detection (consecutive, growing time, cap, panic), Finagle's failure accrual
(windowed), linkerd (timeouts and overload count). Envoy's 100 requests per endpoint and interval are
out of reach for one client among many; hence the small volume.
Weakness: partial faults of a few per cent are left to the error bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trimtab.load_report import LoadReport
from trimtab.policies import Node, Outcome, Policy
from trimtab.policies.busy import Busy

_FAILED = frozenset({Outcome.FAILURE, Outcome.UNREACHED, Outcome.TIMEOUT})
_PANIC = 0.5


@dataclass(slots=True)
class Suspect:
    """An endpoint that has failed lately.

    Attributes:
        row: failures in a row.
        failures: in the window.
        attempts: in the window.
        begun: when the window began.
        times: how often it was ejected.
        until: when an ejection ends; 0 if it is not ejected.
        watched: until when one failure is enough.
    """

    row: int = 0
    failures: int = 0
    attempts: int = 0
    begun: float = 0.0
    times: int = 0
    until: float = 0.0
    watched: float = 0.0


class Ejection:
    """Wraps a policy; see the module.

    Args:
        inner: picks among those that are left.
        consecutive: failures in a row, 1 and above.
        volume: attempts that a rate needs.
        failed: the rate, 0 to 1.
        window_s: how long a rate may take to be measured [s].
        base_s: the first time out [s].
        longest_s: the longest [s].
        part: of the endpoints that may be out at once, 0 to 1.
        busy: told while somebody has failed lately; without that there is nothing to say or to learn of
            successes.

    Attributes:
        ejections: how often an endpoint was ejected.
    """

    def __init__(
        self,
        inner: Policy,
        *,
        consecutive: int = 5,
        volume: int = 20,
        failed: float = 0.5,
        window_s: float = 30.0,
        base_s: float = 10.0,
        longest_s: float = 300.0,
        part: float = 0.1,
        busy: Busy | None = None,
    ) -> None:
        self.inner = inner
        self._consecutive = consecutive
        self._volume = volume
        self._failed = failed
        self._window_s = window_s
        self._base_s = base_s
        self._longest_s = longest_s
        self._part = part
        self._nodes: Sequence[Node] = ()
        self._suspects: dict[Node, Suspect] = {}
        self._out: set[Node] = set()
        self._next_return = 0.0
        self.ejections = 0
        self._busy = busy or Busy()

    @property
    def ejected(self) -> frozenset[Node]:
        """Who is out now."""
        return frozenset(self._out)

    def update(self, nodes: Sequence[Node], now: float) -> None:
        """Replace the candidates; those that left are forgotten."""
        self._nodes = tuple(nodes)
        if self._suspects:
            there = set(nodes)
            self._suspects = {n: s for n, s in self._suspects.items() if n in there}
            self._out &= there
            if self._too_many(len(self._out)) or len(self._out) == len(there):
                self._all_back()
            self._busy.tell("ejection", bool(self._suspects))
        self._apply(now)

    def pick(self, now: float, key: str | None = None) -> Node:
        """The inner policy's choice among those that are not out."""
        if self._out and now >= self._next_return:
            self._return(now)
        return self.inner.pick(now, key)

    def done(
        self, node: Node, outcome: Outcome, latency: float, now: float, report: LoadReport | None
    ) -> None:
        """Count."""
        if outcome in _FAILED:
            try:
                self.inner.done(node, outcome, latency, now, report)
            finally:  # whatever a strategy of the user's own makes of it
                self._failure(node, now)
            return
        if self._suspects and outcome is not Outcome.CANCELLED:
            suspect = self._suspects.get(node)
            if suspect is not None:
                self._success(node, suspect, now)
        self.inner.done(node, outcome, latency, now, report)

    def _success(self, node: Node, suspect: Suspect, now: float) -> None:
        suspect.row = 0
        suspect.attempts += 1
        if node in self._out or now < suspect.watched:
            return
        if suspect.times and now >= suspect.watched + self._time_out(suspect):
            suspect.times -= 1
            suspect.watched = now
        if not suspect.times and now - suspect.begun > self._window_s:
            del self._suspects[node]
            self._busy.tell("ejection", bool(self._suspects))

    def _failure(self, node: Node, now: float) -> None:
        suspect = self._suspects.get(node)
        if suspect is None:
            if node not in self._nodes:
                return  # it has left: nobody would ever clear it
            suspect = self._suspects[node] = Suspect(begun=now)
            self._busy.tell("ejection", True)
        elif now - suspect.begun > self._window_s:
            suspect.begun, suspect.failures, suspect.attempts = now, 0, 0
        suspect.row += 1
        suspect.failures += 1
        suspect.attempts += 1
        if node not in self._out and self._deserves(suspect, now):
            self._eject(node, suspect, now)

    def _deserves(self, suspect: Suspect, now: float) -> bool:
        return (
            suspect.row >= self._consecutive
            or now < suspect.watched
            or (
                suspect.attempts >= self._volume
                and suspect.failures >= self._failed * suspect.attempts
            )
        )

    def _eject(self, node: Node, suspect: Suspect, now: float) -> None:
        n = len(self._nodes)
        bad = sum(
            other in self._out or self._deserves(s, now) for other, s in self._suspects.items()
        )
        if self._too_many(bad):
            if self._out:
                self._all_back()
                self._apply(now)
            return
        if len(self._out) >= min(n - 1, max(1, int(self._part * n))):
            return
        suspect.times += 1
        suspect.until = now + self._time_out(suspect)
        suspect.row = suspect.failures = suspect.attempts = 0
        self._out.add(node)
        self.ejections += 1
        self._apply(now)

    def _too_many(self, bad: int) -> bool:
        n = len(self._nodes)
        return bad > _PANIC * n and n > 2  # noqa: PLR2004 - of two, one may be the bad one

    def _all_back(self) -> None:
        for node in self._out:
            self._suspects[node].until = 0.0
        self._out.clear()

    def _time_out(self, suspect: Suspect) -> float:
        # The exponent is bounded so that no float overflows.
        doublings: int = min(max(suspect.times - 1, 0), 30)
        return min(self._longest_s, self._base_s * float(2**doublings))

    def _return(self, now: float) -> None:
        for node in [n for n in self._out if now >= self._suspects[n].until]:
            suspect = self._suspects[node]
            self._out.discard(node)
            suspect.begun, suspect.row, suspect.failures, suspect.attempts = now, 0, 0, 0
            suspect.watched = now + self._time_out(suspect)
        self._apply(now)

    def _apply(self, now: float) -> None:
        out = self._out
        self._next_return = min((self._suspects[n].until for n in out), default=0.0)
        left = [n for n in self._nodes if n not in out] if out else self._nodes
        self.inner.update(left, now)
