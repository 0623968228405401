"""Each response leaves one token, which is used once: who just freed a slot gets the next request.

Rules: a successful response leaves a token (endpoint, requests in flight there, latency); an older
    one of the same endpoint is dropped, and the oldest when there are more than ``size``. Tokens live
    for ``age_s``.
    pick: with probability ``explore``, with fewer than two tokens, or until ``size`` endpoints (or all)
    have answered once, power of two choices on our own in-flight over all endpoints. Else the token with the least latency among the cold ones, cold
    being in-flight <= the ``quantile`` of the last 64 reports; when all are hot, the least in-flight.
    Latencies up to 25 % and a millisecond above the least are the same, and in-flight decides, then
    age, the oldest first, so that a client with one request at a time goes round: no endpoint is
    preferred for a hair.
    Without ``explore`` it is EXPLORE / endpoints, 5 to 15 %: in a small fleet each endpoint goes on being
    tried, so that one that recovers is found; in a large one blind choices would cost more than they find.
    The token is gone then, so no endpoint is sent a herd.
    An error leaves no token: a pod that fails fast attracts nobody. An endpoint with a share below 1
    (errors, pushback) leaves its token with that probability only.
    In-flight is divided by weight. Without a load report it is our own, and the latency is the lesser of
    the last two that we saw: one answer that was late by chance says little.
Sources: the hot/cold rule and pool of Prequal (Wydrowski et al., "Load is not what you should balance",
NSDI 2024), fed by responses in place of probes; one-shot tokens as in join-idle-queue (Lu et al., 2011).
Weakness: with very few requests per client the pool is empty or stale, and it is power of two choices;
it learns nothing of an endpoint it doesn't use except by exploring.
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
    __slots__ = ("_age_s", "_explore", "_given", "_p2c", "_pool", "_quantile", "_random", "_recent", "_seen", "_size",
                 "_sorted", "_there", "_tried", "_untried")  # fmt: skip

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
        self._pool: dict[Node, tuple[float, float, float]] = {}  # in flight, latency, when
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
        self._pool = {node: token for node, token in self._pool.items() if node in self._there}
        self._seen = {node: seen for node, seen in self._seen.items() if node in self._there}

    def pick(self, now: float, key: str | None = None) -> Node:
        """O(size), whatever the number of endpoints."""
        pool = self._pool
        oldest = now - self._age_s
        while pool:
            node = next(iter(pool))
            if pool[node][2] >= oldest:
                break
            del pool[node]
        if len(pool) < 2 or self._untried or self._random() < self._explore:  # noqa: PLR2004
            return self._p2c.pick(now)
        ordered = self._sorted
        threshold = ordered[int(self._quantile * (len(ordered) - 1))]
        least = inf
        for in_flight, latency, _ in pool.values():
            if latency < least and in_flight <= threshold:
                least = latency
        bound = least * _ALIKE + _NOISE_S
        best, coolest = node, inf
        for node, (in_flight, latency, _) in pool.items():
            # When all are hot, least is inf, and so is the bound: all take part.
            if (
                in_flight < coolest
                and latency <= bound
                and (in_flight <= threshold or least == inf)
            ):
                best, coolest = node, in_flight
        del pool[best]
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
        pool[node] = (in_flight, latency, now)
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
