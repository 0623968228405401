"""Give no new requests to an endpoint that has fallen silent: frozen, hung, or cut off without a word.

Formula: silence = the time since the first request was sent there of which, and since which, nothing
    has been heard. An endpoint whose silence exceeds its patience gets no more requests, until it shows
    life: the end of any request that it served, part of an answer (headers, a message of a stream), or the
    answer to one question of the door's.
    patience = twice the usual time, at least ``least_s`` and at most ``most_s``; the usual time is the
    longest latency lately, of all endpoints together (a new peak counts at once and fades by a
    hundredth of the difference per request). An endpoint that was only slow gets twice the patience,
    for as long as it stays.
Time: only time in which this process was awake counts. What passes between two picks beyond
    ``blink_s`` does not: a client that was itself stopped must not find everybody silent.
Bounds: at most half of the endpoints are out, never the last one. Where more have fallen silent, or are
    left when others go, the fault is not theirs: all come back. Nobody stays out longer than ``longest_s`` without being tried.
Sources: the age of the oldest request as a sign of a dead peer, as TCP_USER_TIMEOUT does for segments;
half and panic as Envoy's panic threshold. HTTP/2 pings can't do this: servers allow one in five minutes.
Weakness: an endpoint whose proxy answers for a frozen application is asked again and again, at growing
intervals; what its requests' deadlines say is left to ejection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trimtab.load_report import LoadReport
from trimtab.policies import Node, Outcome, Policy
from trimtab.policies.busy import Busy

# Ends that the endpoint had no part in.
_MUTE = frozenset({Outcome.TIMEOUT, Outcome.CANCELLED, Outcome.UNREACHED})


class Stalls:
    """Wraps a policy; see the module.

    Args:
        inner: picks among those that are left.
        stalled: called with each endpoint that has fallen silent; somebody may ask it for a sign of
            life, and tell ``alive``. Must not block. None: nobody does.
        least_s: the shortest patience [s].
        most_s: the longest [s].
        blink_s: what counts of the time between two picks [s].
        longest_s: the longest time out [s]; 300 if somebody asks, else 5.
        busy: told while somebody is out.

    Attributes:
        found: how often an endpoint fell silent.
        last: when the last pick was.
        asleep: how long this process has not been awake, together [s].
        usual_s: the usual time.
    """

    __slots__ = ("_busy", "_longest_s", "_most_s", "_next_return", "_nodes", "_out", "_patience", "_stalled", "asleep",
                 "blink_s", "found", "inner", "last", "least_s", "usual_s")  # fmt: skip

    def __init__(
        self,
        inner: Policy,
        stalled: Callable[[Node], None] | None,
        *,
        least_s: float = 0.05,
        most_s: float = 0.5,
        blink_s: float = 0.02,
        longest_s: float | None = None,
        busy: Busy | None = None,
    ) -> None:
        self.inner = inner
        self._stalled = stalled
        self.least_s = least_s
        self._most_s = most_s
        self.blink_s = blink_s
        if longest_s is None:
            longest_s = 5.0 if stalled is None else 300.0
        self._longest_s = longest_s
        self._nodes: Sequence[Node] = ()
        self._patience: dict[Node, float] = {}  # of those that were only slow
        self._out: dict[Node, float] = {}  # until when, by the clock
        self._next_return = 0.0
        self.last = 0.0
        self.asleep = 0.0
        self.usual_s = 0.0
        self.found = 0
        self._busy = busy or Busy()

    @property
    def silent(self) -> frozenset[Node]:
        """Who is out now."""
        return frozenset(self._out)

    def update(self, nodes: Sequence[Node], now: float) -> None:
        """Replace the candidates; those that left are forgotten."""
        before, there = set(self._nodes), set(nodes)
        self._nodes = tuple(nodes)
        for node in there - before:
            node.asked = None
        self._patience = {n: patience for n, patience in self._patience.items() if n in there}
        self._out = {n: until for n, until in self._out.items() if n in there}
        if self._too_many(len(self._out)):
            self._out.clear()
        self._apply(now)

    def pick(self, now: float, key: str | None = None) -> Node:
        """The inner policy's choice among those that are not silent."""
        blink = self.last + self.blink_s
        self.last = now
        if now > blink:
            self.asleep += now - blink
        if self._out and now >= self._next_return:
            for node in [n for n, until in self._out.items() if now >= until]:
                del self._out[node]
            self._apply(now)
        return self.judged(self.inner.pick(now, key), now, key)

    def judged(self, node: Node, now: float, key: str | None) -> Node:
        """The endpoint that was picked if it may get the request, else another one."""
        awake = now - self.asleep
        while True:
            if node.asked is None:
                node.asked = awake
            silence = awake - node.asked
            if silence <= self.least_s or silence <= self._patience_with(node):
                return node
            if node.heard:
                node.heard = False
                node.asked = awake
                return node
            if not self._take_out(node, now):
                return node
            node = self.inner.pick(now, key)

    def done(
        self, node: Node, outcome: Outcome, latency: float, now: float, report: LoadReport | None
    ) -> None:
        """Every end that comes from the endpoint is a sign of life, and any after part of an answer."""
        if outcome not in _MUTE:
            usual = self.usual_s
            self.usual_s = latency if latency > usual else usual + 0.01 * (latency - usual)
            self._show_life(node, now)
        elif node.heard:
            self._show_life(node, now)
        elif outcome is Outcome.UNREACHED:
            self.withdrawn(node, now - latency)
        self.inner.done(node, outcome, latency, now, report)

    def withdrawn(self, node: Node, picked: float) -> None:
        """No request left for what was picked at that time [s]: there is nothing to wait for."""
        if node.asked == picked - self.asleep:
            node.asked = None

    def _show_life(self, node: Node, now: float) -> None:
        node.heard = False
        node.asked = None
        if self._out and node in self._out:
            self.alive(node, now)

    def alive(self, node: Node, now: float) -> None:
        """It has shown life: it was slow, or is well again."""
        node.asked = None
        if self._out.pop(node, None) is not None:
            self._patience[node] = min(self._most_s, 2.0 * self._patience_with(node))
            self._apply(now)

    def _patience_with(self, node: Node) -> float:
        usual = min(self._most_s, max(self.least_s, 2.0 * self.usual_s))
        return max(usual, self._patience.get(node, 0.0))

    def _take_out(self, node: Node, now: float) -> bool:
        """Whether it is out now; if not, everybody gets another chance."""
        if self._too_many(len(self._out) + 1):
            for each in self._nodes:
                each.asked = None
            self._out.clear()
        else:
            node.asked = None
            self._out[node] = now + self._longest_s
            self.found += 1
            if self._stalled is not None:
                self._stalled(node)
        self._apply(now)
        return node in self._out

    def _too_many(self, out: int) -> bool:
        n = len(self._nodes)
        return out > 0 and (2 * out > max(n, 2) or n < 2)  # noqa: PLR2004 - half, but one of two

    def _apply(self, now: float) -> None:
        out = self._out
        self._busy.tell("stalls", bool(out))
        self._next_return = min(out.values(), default=0.0)
        self.inner.update([n for n in self._nodes if n not in out] if out else self._nodes, now)
