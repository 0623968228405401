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
    In a larger one a blind choice begins anew, and is worth at most 1 / explore tokens, as many as there are
    for each on average (at first a random part of that), so nobody is among them for longer than others.
    Together less than twice the fair share, whatever is said (tests/policies/test_hostile_reports.py).
    An error leaves no token: a pod that fails fast attracts nobody. An endpoint with a share below 1
    (errors, pushback) leaves its token with that probability only.
    In-flight is divided by weight. Without a load report it is our own, and the latency is the lesser of
    the last two that we saw: one answer that was late by chance says little.
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
from trimtab.policies import Node, Outcome, Policy, register
from trimtab.policies.p2c import P2C
from trimtab.policies.params import Params, Reader

EXPLORE = 1.2  # explorations per endpoint and choice, within these bounds
_LEAST, _MOST = 0.05, 0.15
_REPORTS = 64  # whose quantile divides hot from cold
_ALIKE = 1.25  # latencies within this ratio of the least are the same
_NOISE_S = 0.001  # and so are those that differ by less: that is the network, and the interpreter
MOST = 1.7  # times the mean use of those that have tokens
SAVED = 8.0  # turns that an endpoint may catch up on


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
    __slots__ = ("_age_s", "_chain", "_explore", "_given", "_interval", "_p2c", "_picks", "_pool", "_quantile",
                 "_random", "_recent", "_seen", "_size", "_sorted", "_there", "_tried", "_turns", "_untried")  # fmt: skip

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
        # By age: a node's newest token replaces the one it had, at the end.
        self._pool: dict[
            Node, tuple[float, float, float, float]
        ] = {}  # in flight, latency, when, due
        self._picks = 0
        self._turns: dict[Node, tuple[float, float]] = {}  # next due at so many picks, tokens left
        self._interval = self._chain = inf
        self._seen: dict[Node, float] = {}  # latency of the last answer, where servers don't say
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []
        self._there: set[Node] = set()
        self._tried: set[Node] = set()
        self._untried = 0

    def update(self, nodes: Sequence[Node], now: float) -> None:
        """Replace the candidates; tokens of those that stay are kept."""
        self._there = set(nodes)
        self._tried &= self._there
        self._count_untried()
        if self._given is None:
            self._explore = min(_MOST, max(_LEAST, EXPLORE / max(1, len(nodes))))
        self._p2c.update(nodes, now)
        self._bound(nodes)
        self._pool = {node: token for node, token in self._pool.items() if node in self._there}
        self._seen = {node: seen for node, seen in self._seen.items() if node in self._there}

    def _bound(self, nodes: Sequence[Node]) -> None:
        n, size = len(nodes), self._size
        if n:
            weights = sum(node.endpoint.weight for node in nodes)
            self._interval = min(1.0, size / n) * weights / MOST
        self._chain = 1.0 / self._explore if n > size and self._explore else inf
        turns, new = self._turns, (float(self._picks), self._chain)
        self._turns = {node: turns.get(node, new) for node in nodes}

    def pick(self, now: float, key: str | None = None) -> Node:
        """O(size), whatever the number of endpoints."""
        pool, turns = self._pool, self._turns
        picks = self._picks = self._picks + 1
        oldest = now - self._age_s
        while pool:
            node = next(iter(pool))
            if pool[node][2] >= oldest:
                break
            del pool[node]
        best = None
        if len(pool) > 1 and not self._untried and self._random() >= self._explore:
            ordered = self._sorted
            threshold = ordered[int(self._quantile * (len(ordered) - 1))]
            least = inf
            for in_flight, latency, _, due in pool.values():
                if latency < least and in_flight <= threshold and due <= picks:
                    least = latency
            bound = least * _ALIKE + _NOISE_S
            coolest = inf
            for node, (in_flight, latency, _, due) in pool.items():
                # When all are hot, least is inf, and so is the bound: all take part.
                if (
                    in_flight < coolest
                    and latency <= bound
                    and (in_flight <= threshold or least == inf)
                    and due <= picks
                ):
                    best, coolest = node, in_flight
        if best is not None:
            del pool[best]
        else:
            best = self._p2c.pick(now)
            if self._chain < inf:
                # At first as if some of it were used up: all begin at once, and only chance ends it.
                chain = self._chain * self._random() if self._untried else self._chain
                turns[best] = (picks + self._interval / best.endpoint.weight, chain)
                return best
        due, left = turns[best]
        interval = self._interval / best.endpoint.weight
        saved = picks - SAVED * interval
        # Not max(): a call is a tenth of the choice.
        due = due if due > saved else saved  # noqa: FURB136
        turns[best] = (due + interval, left - 1.0)
        return best

    def done(
        self, node: Node, outcome: Outcome, latency: float, now: float, report: LoadReport | None
    ) -> None:
        """Keep the response's token."""
        pool = self._pool
        pool.pop(node, None)
        if self._untried and node in self._there:
            self._tried.add(node)
            self._count_untried()
        if outcome is not Outcome.SUCCESS or node not in self._there:
            return
        in_flight: float = node.in_flight
        if report is not None and report.in_flight is not None:
            in_flight = report.in_flight
        if report is not None and report.latency is not None:
            latency = report.latency
        else:
            seen = self._seen.get(node, latency)
            self._seen[node] = latency
            latency = min(latency, seen)
        in_flight /= node.endpoint.weight
        self._remember(in_flight)
        if node.share < 1.0 and self._random() >= node.share:
            return
        due, left = self._turns[node]
        if left <= 0.0:
            return
        pool[node] = (in_flight, latency, now, due)
        if len(pool) > self._size:
            del pool[next(iter(pool))]

    def describe(self) -> str:
        """For ``trimtab.debug``."""
        return f"tokens held: {len(self._pool)}"

    def cost(self, node: Node, now: float) -> str:
        """For ``trimtab.debug``: the token that it left, as it will be compared."""
        token = self._pool.get(node)
        if token is None or token[2] < now - self._age_s:
            return ""
        return f"{token[0]:g} at {token[1] * 1e3:.1f} ms"

    def _count_untried(self) -> None:
        self._untried = max(0, min(self._size, len(self._there)) - len(self._tried))

    def _remember(self, in_flight: float) -> None:
        recent, ordered = self._recent, self._sorted
        recent.append(in_flight)
        insort(ordered, in_flight)
        if len(recent) > _REPORTS:
            del ordered[bisect_left(ordered, recent.popleft())]


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
