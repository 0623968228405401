"""Each response leaves one token, which is used once: who just freed a slot gets the next request.

Rules: a successful response leaves a token (endpoint, requests in flight there, latency); an older
    one of the same endpoint is dropped, and the oldest when there are more than ``size``. Tokens live
    for ``age_s``, or for ``size`` choices where these take longer (STALE times ``age_s`` at the most): of a client
    with few requests an old answer still says who is slow.
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
    answers. An endpoint leaves tokens on credit. Each blind choice of it adds
        worth = max(1, WORTH * (choices from one blind choice to the next, lately - 1))  tokens
    and each choice of its token takes one; what is not used is kept, up to KEPT * worth. Blind choices
    hear nobody's word, so in the mean nobody has more than WORTH times the tokens that others have for each. When
    they are used is free: the freshest at once, and a client with few requests may stay with the few endpoints
    that it knows. Until all are tried nothing is added, since nothing is known of how many others get.
    Less than twice the fair share, whatever is said (tests/policies/test_hostile_reports.py). One that is quick
    indeed may get more: our own in-flight, which no word changes, prefers it in blind choices, and gives it credit.
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
it learns nothing of an endpoint it doesn't use except by exploring. The bound costs something where reports are
true: a client that has just begun has little credit to give, and chooses blindly more often.
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
WORTH = 1.8  # times the tokens that others have of a blind choice
KEPT = 3.0  # blind choices whose worth an endpoint may save up
_BETWEEN = 4.0  # choices from one blind choice to the next, at first: few, lest early lies pay
_GAIN = 0.05  # of one of them, in their mean
STALE = 10.0  # times ``age_s``: nothing older is of use
SILENCE_S = 10.0  # without an answer that lacks a report, before reports count


class _Known:
    """What is known of one endpoint: its credit, and the token that it left, which is good while it is in the pool.

    Attributes:
        credit: tokens of it that may be used.
        tried: whether it has answered.
        seen: latency of its last answer, where servers don't say [s]; -1: none yet.
        in_flight: the token's, by weight.
        latency: the token's [s].
        at: when it was left.
        number: after how many choices it was left.
    """

    __slots__ = ("at", "credit", "in_flight", "latency", "number", "seen", "tried")

    def __init__(self) -> None:
        self.credit = 0.0
        self.tried = False
        self.seen = -1.0
        self.in_flight = self.latency = self.at = 0.0
        self.number = 0


class Token:
    """See the module.

    Args:
        random: the source of randomness.
        size: tokens kept, 2 and above.
        quantile: of reported in-flight that divides cold from hot, 0 to 1.
        explore: probability of a choice without tokens, 0 to 1; None: by the number of endpoints.
        age_s: how long a token is good [s], or longer (see the module).
    """

    divides_shares = True
    __slots__ = ("_age_s", "_between", "_blind", "_check", "_explore", "_given", "_known",
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
        n = len(nodes)
        if self._given is None:
            self._explore = min(_MOST, max(_LEAST, EXPLORE / max(1, n)))
        self._p2c.update(nodes, now)
        known = self._known
        self._known = {node: known.get(node) or _Known() for node in nodes}
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
                if token.latency < least and token.in_flight <= threshold:
                    least = token.latency
            # When all are hot, all take part.
            bound, threshold = (
                (inf, inf) if least == inf else (least * _ALIKE + _NOISE_S, threshold)
            )
            coolest = inf
            for node, token in pool.items():
                in_flight = token.in_flight
                if in_flight < coolest and in_flight <= threshold and token.latency <= bound:
                    best, coolest = node, in_flight
        if best is not None:
            pool.pop(best).credit -= 1.0
            return best
        best = self._p2c.pick(now)
        if not self._untried:
            self._between += _GAIN * (picks - self._blind - self._between)
            worth = max(1.0, WORTH * (self._between - 1.0))
            known = self._known[best]
            known.credit = min(known.credit + worth, KEPT * worth)
        self._blind = picks
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
        if known.credit <= 0.0 or (node.share < 1.0 and self._random() >= node.share):
            return
        known.in_flight = in_flight
        known.latency = latency
        known.at = now
        known.number = self._picks
        pool[node] = known
        if len(pool) > self._size:
            del pool[next(iter(pool))]

    def describe(self) -> str:
        """For ``trimtab.debug``."""
        return f"tokens held: {len(self._pool)}"

    def cost(self, node: Node, now: float) -> str:
        """For ``trimtab.debug``: the token that it left, as it will be compared."""
        token = self._pool.get(node)
        if token is None or self._is_old(token, now):
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

    def _is_old(self, token: _Known, now: float) -> bool:
        age = now - token.at
        return age > self._age_s and (
            token.number <= self._picks - self._size or age > STALE * self._age_s
        )

    def _drop_old(self, now: float) -> None:
        pool = self._pool
        while pool:
            node = next(iter(pool))
            if not self._is_old(pool[node], now):
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
