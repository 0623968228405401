"""Each response leaves one token, which is used once: who just freed a slot gets the next request.

Rules: a successful response leaves a token (endpoint, requests in flight there, latency); an older
    one of the same endpoint is dropped, and the oldest when there are more than ``size``. Tokens live
    for ``age_s``.
    pick: with probability ``explore``, with fewer than two tokens, or until ``size`` endpoints (or all)
    have answered once, power of two choices on our own in-flight over all endpoints: a blind choice. Else
    the token with the least latency among the cold ones, cold being in-flight <= the ``quantile`` of the
    last 64 reports; when all are hot, the least in-flight.
    Latencies up to 25 % and a millisecond above the least are the same, and in-flight decides, then
    age, the oldest first, so that a client with one request at a time goes round: no endpoint is
    preferred for a hair.
    Without ``explore`` it is EXPLORE / endpoints, 5 to 15 %: in a small fleet each endpoint goes on being
    tried, so that one that recovers is found; in a large one blind choices would cost more than they find.
    The token is gone then, so no endpoint is sent a herd.
    A server's word is not believed without bounds, or one that says it is idle would win with each of its
    answers. After a choice its next token is good
        interval = min(n, size) / n * sum(weights) / (MOST * weight)  choices
    later (SAVED turns can be saved up), so among those that have tokens none has more than MOST times its
    part. In a fleet of ``size`` and fewer all have tokens, blind choices take turns as well, and that does.
    In a larger one a blind choice begins anew, and is worth at most WORTH times the tokens that were used
    between two of them lately, and at most 1 / explore (at first a random part of that), so nobody is
    among them for much longer than others.
    Together less than twice the fair share, whatever is said (tests/policies/test_hostile_reports.py).
    An error leaves no token: a pod that fails fast attracts nobody. An endpoint with a share below 1
    (errors, pushback) leaves its token with that probability only.
    In-flight is divided by weight. Without load reports it is our own, and the latency is the lesser of
    the last two that we saw: one answer that was late by chance says little.
    Like is compared with like: a report counts all clients' requests, our own view ours alone, so beside
    pods that report the others would look idle. From an answer without a report on our own view serves
    for all, until there has been none for SILENCE_S (in-flight and latency each by itself).
Sources: the hot/cold rule and pool of Prequal (Wydrowski et al., "Load is not what you should balance",
NSDI 2024), fed by responses in place of probes; one-shot tokens as in join-idle-queue (Lu et al., 2011).
Weakness: with very few requests per client the pool is empty or stale, and it is power of two choices;
it learns nothing of an endpoint it doesn't use except by exploring. The bounds cost something where reports are
true: a fast endpoint is left sooner, most of all by many clients with few requests each.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from math import inf
from random import Random

from trimtab.load_report import LoadReport
from trimtab.policies import SUCCESS, Node, Outcome, Policy, register
from trimtab.policies.p2c import P2C
from trimtab.policies.params import Params, Reader

EXPLORE = 1.2  # explorations per endpoint and choice, within these bounds
_LEAST, _MOST = 0.05, 0.15
_REPORTS = 64  # whose quantile divides hot from cold
_ALIKE = 1.25  # latencies within this ratio of the least are the same
_NOISE_S = 0.001  # and so are those that differ by less: that is the network, and the interpreter
MOST = 1.7  # times the mean use of those that have tokens
WORTH = (
    2.0  # times the tokens that others have of a blind choice; less costs p99 where pods are uneven
)
_BETWEEN = 10.0  # choices from one blind choice to the next, at first
_GAIN = 0.02  # of one of them, in their mean
SAVED = 8.0  # turns that an endpoint may catch up on
SILENCE_S = 10.0  # without an answer that lacks a report, before reports count


class _Known:
    """What is known of one endpoint: its turn, and the token that it left, which is good while it is in the pool.

    Attributes:
        step: choices from one turn to the next.
        due: when its next turn is, in choices.
        left: tokens that it may leave until it is chosen blindly again.
        tried: whether it has answered.
        seen: latency of its last answer, where servers don't say [s]; -1: none yet.
        in_flight: the token's, by weight.
        latency: the token's [s].
        at: when it was left.
        good: from which choice on it is good.
    """

    __slots__ = ("at", "due", "good", "in_flight", "latency", "left", "seen", "step", "tried")

    def __init__(self, due: float, left: float) -> None:
        self.step = inf
        self.due = due
        self.left = left
        self.tried = False
        self.seen = -1.0
        self.in_flight = self.latency = self.at = self.good = 0.0


class Token:
    """See the module.

    Args:
        random: the source of randomness.
        size: tokens kept, 2 and above.
        quantile: of reported in-flight that divides cold from hot, 0 to 1.
        explore: probability of a choice without tokens, 0 to 1; None: by the number of endpoints.
        age_s: how long a token is good [s].
    """

    divides_shares = True
    __slots__ = ("_age_s", "_between", "_blind", "_chain", "_check", "_explore", "_given", "_known",
                 "_own_in_flight", "_own_latency", "_p2c", "_picks", "_pool", "_quantile", "_random",
                 "_rank", "_recent", "_size", "_sorted", "_untried")  # fmt: skip

    def __init__(
        self,
        random: Random,
        *,
        size: int = 8,
        quantile: float = 0.8,
        explore: float | None = None,
        age_s: float = 1.0,
    ) -> None:
        self._random = random.random
        self._p2c = P2C(random)
        self._size = size
        self._quantile = quantile
        self._given = explore
        self._explore = _MOST if explore is None else explore
        self._age_s = age_s
        self._known: dict[Node, _Known] = {}
        # By age: a node's newest token replaces the one it had, at the end.
        self._pool: dict[Node, _Known] = {}
        self._picks = 0
        self._chain = inf
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []
        self._rank = 0  # of the quantile in it
        self._check = -inf  # no token is too old before
        self._untried = 0
        self._blind = 0  # when the last blind choice was, and how far they are apart [choices]
        self._between = _BETWEEN
        # Until when our own view counts, since somebody answered without the server's.
        self._own_in_flight = self._own_latency = -inf

    def update(self, nodes: Sequence[Node], now: float) -> None:
        """Replace the candidates; tokens of those that stay are kept."""
        n, size = len(nodes), self._size
        if self._given is None:
            self._explore = min(_MOST, max(_LEAST, EXPLORE / max(1, n)))
        self._p2c.update(nodes, now)
        self._chain = 1.0 / self._explore if n > size and self._explore else inf
        known, due = self._known, float(self._picks)
        self._known = {node: known.get(node) or _Known(due, self._chain) for node in nodes}
        interval = min(1.0, size / max(1, n)) * sum(node.endpoint.weight for node in nodes) / MOST
        for node, each in self._known.items():
            each.step = interval / node.endpoint.weight
            # Blind choices begin it anew in a large fleet only: in a small one nothing may run out.
            if self._chain == inf:
                each.left = inf
            elif each.left == inf:
                each.left = self._chain * self._random()
        self._pool = {node: token for node, token in self._pool.items() if node in self._known}
        self._count_untried()

    def pick(self, now: float, key: str | None = None) -> Node:
        """O(size), whatever the number of endpoints."""
        pool = self._pool
        picks = self._picks = self._picks + 1
        if now >= self._check:
            self._drop_old(now)
        best = None
        if len(pool) > 1 and not self._untried and self._random() >= self._explore:
            threshold = self._sorted[self._rank]
            least = inf
            for token in pool.values():
                if token.latency < least and token.in_flight <= threshold and token.good <= picks:
                    least = token.latency
            # When all are hot, all take part.
            bound, threshold = (
                (inf, inf) if least == inf else (least * _ALIKE + _NOISE_S, threshold)
            )
            coolest = inf
            for node, token in pool.items():
                in_flight = token.in_flight
                if (
                    in_flight < coolest
                    and in_flight <= threshold
                    and token.latency <= bound
                    and token.good <= picks
                ):
                    best, coolest = node, in_flight
        if best is not None:
            del pool[best]
            known = self._known[best]
        else:
            best = self._p2c.pick(now)
            known = self._known[best]
            if self._chain < inf:
                if self._untried:
                    # As if some of it were used up: all begin at once, and only chance ends it.
                    known.left = self._chain * self._random()
                else:
                    self._between += _GAIN * (picks - self._blind - self._between)
                    known.left = min(self._chain, max(1.0, WORTH * (self._between - 1.0)))
                self._blind = picks
                known.due = picks + known.step
                return best
        # Not max(): a call is a tenth of the choice.
        due, saved = known.due, picks - SAVED * known.step
        known.due = (due if due > saved else saved) + known.step  # noqa: FURB136
        known.left -= 1.0
        return best

    def done(
        self, node: Node, outcome: Outcome, latency: float, now: float, report: LoadReport | None
    ) -> None:
        """Keep the response's token."""
        pool = self._pool
        pool.pop(node, None)
        known = self._known.get(node)
        if known is None:
            return
        if self._untried and not known.tried:
            known.tried = True
            self._count_untried()
        if outcome is not SUCCESS:
            return
        in_flight: float = node.in_flight
        said = None
        if report is None:
            self._own_in_flight = self._own_latency = now + SILENCE_S
        else:
            count, said = report.in_flight, report.latency
            if count is None or said is None:
                self._go_without(count, said, now)
            if count is not None and now >= self._own_in_flight:
                in_flight = count
        if said is not None and now >= self._own_latency:
            latency = said
        else:
            seen, known.seen = known.seen, latency
            latency = seen if 0.0 <= seen < latency else latency
        in_flight /= node.endpoint.weight
        self._remember(in_flight)
        if known.left <= 0.0 or (node.share < 1.0 and self._random() >= node.share):
            return
        known.in_flight = in_flight
        known.latency = latency
        known.at = now
        known.good = known.due
        pool[node] = known
        if len(pool) > self._size:
            del pool[next(iter(pool))]

    def describe(self) -> str:
        """For ``trimtab.debug``."""
        return f"tokens held: {len(self._pool)}"

    def cost(self, node: Node, now: float) -> str:
        """For ``trimtab.debug``: the token that it left, as it will be compared."""
        token = self._pool.get(node)
        if token is None or token.at < now - self._age_s:
            return ""
        return f"{token.in_flight:g} at {token.latency * 1e3:.1f} ms"

    def _go_without(self, count: int | None, said: float | None, now: float) -> None:
        """Of what this report does not say, our own view serves for all."""
        if count is None:
            self._own_in_flight = now + SILENCE_S
        if said is None:
            self._own_latency = now + SILENCE_S

    def _count_untried(self) -> None:
        tried = sum(known.tried for known in self._known.values())
        self._untried = max(0, min(self._size, len(self._known)) - tried)

    def _drop_old(self, now: float) -> None:
        pool, oldest = self._pool, now - self._age_s
        while pool:
            node = next(iter(pool))
            if pool[node].at >= oldest:
                self._check = pool[node].at + self._age_s
                return
            del pool[node]
        self._check = now + self._age_s

    def _remember(self, in_flight: float) -> None:
        recent, ordered = self._recent, self._sorted
        recent.append(in_flight)
        insort(ordered, in_flight)
        if len(recent) > _REPORTS:
            del ordered[bisect_left(ordered, recent.popleft())]
        else:
            self._rank = int(self._quantile * (len(ordered) - 1))


@register("token")
def build(params: Params, random: Random) -> Policy:
    """The factory."""
    read = Reader("token", params)
    explore = read.number("explore", _MOST, 0.0, 1.0)
    made = Token(
        random,
        size=read.whole("size", 8, 2, 1000),
        quantile=read.number("quantile", 0.8, 0.0, 1.0),
        explore=explore if "explore" in params else None,
        age_s=read.number("age_s", 1.0, 0.001, 3600.0),
    )
    read.close()
    return made
