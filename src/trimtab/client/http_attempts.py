"""What the end of one HTTP attempt means, and when another endpoint may be asked. Pure.

``attempt.Course`` decides, as for gRPC: a request that never reached an endpoint, since no connection came
about, may be repeated whatever its method; one that did only if its method may run more than once and
its body can be sent again.
"""

from __future__ import annotations

import enum
from calendar import timegm
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from email.utils import parsedate_tz
from math import isfinite
from random import Random

from trimtab.attempt import Budget, Course, Ended, LatencyQuantile, Retry, Verdict
from trimtab.attempt.budget import RATIO
from trimtab.balancer import Balancer, Node, Pick
from trimtab.client.call_details import WANTED, joined
from trimtab.client.http_plans import LOST, ONCE, HttpPlans, told_of
from trimtab.client.observing import End, Observer, Sent
from trimtab.load_codec import HEADER, decode
from trimtab.load_report import LoadReport
from trimtab.model import ServicePort
from trimtab.policies import Outcome

RETRY_AFTER = "retry-after"
_DATE = "date"

CLIENT_ERROR = 400
"""The lowest status that says more of a request than that it went well."""
_SERVER_ERROR = 500
_REQUEST_TIMEOUT = 408
_TOO_MANY = 429
_NOT_IMPLEMENTED = 501
_UNAVAILABLE = 503
_LONGEST_REST_S = 60.0
_NO_STATUS = -1  # of an end that is the caller's own, or too late: nothing follows
_NEVER = -1.0
_LOOKS_S = 10.0  # for an endpoint that takes a connection, where the caller says no time


class Broke(enum.Enum):
    """How an attempt without a response ended.

    UNREACHED: no connection came about, so nothing was sent. UNREAD: the server left the connection, and it
    says that it has not looked at this request, or nothing of it was written. REFUSED: it says so and stays.
    LOST: the connection broke after the request was sent.
    TIMEOUT: no response in time. FAULTY: what came back was no HTTP. LOCAL: the caller's own doing
    (cancelled, pool full, bad request).
    """

    UNREACHED = enum.auto()
    UNREAD = enum.auto()
    REFUSED = enum.auto()
    LOST = enum.auto()
    TIMEOUT = enum.auto()
    FAULTY = enum.auto()
    LOCAL = enum.auto()

    @property
    def outcome(self) -> Outcome:
        """What it means to a policy."""
        return _OUTCOMES[self]


_OUTCOMES = {
    Broke.UNREACHED: Outcome.UNREACHED,
    Broke.UNREAD: Outcome.CANCELLED,  # to leave a connection is no fault
    Broke.REFUSED: Outcome.OVERLOADED,
    Broke.LOST: Outcome.FAILURE,
    Broke.TIMEOUT: Outcome.TIMEOUT,
    Broke.FAULTY: Outcome.FAILURE,
    Broke.LOCAL: Outcome.CANCELLED,
}


def outcome_of_http(status: int) -> Outcome:
    """Classify a status: 503 and 429 say overloaded, other 5xx but 501 count against the endpoint."""
    if status < CLIENT_ERROR:
        return Outcome.SUCCESS
    if status in {_TOO_MANY, _UNAVAILABLE}:
        return Outcome.OVERLOADED
    if status == _REQUEST_TIMEOUT:
        return Outcome.TIMEOUT
    if status < _SERVER_ERROR or status == _NOT_IMPLEMENTED:
        return Outcome.ANSWERED
    return Outcome.FAILURE


def report_of_http(headers: Mapping[str, str], wall: Callable[[], float]) -> LoadReport | None:
    """What the server said of its load, ``Retry-After`` included; None if nothing.

    Args:
        headers: of the response; a mapping that knows no case.
        wall: Unix seconds, for a ``Retry-After`` that is a date where the response has no ``Date``.
    """
    text = headers.get(HEADER)
    report = decode(text) if text else None
    rest = headers.get(RETRY_AFTER)
    if rest is None:
        return report
    seconds = _seconds(rest, headers, wall)
    if seconds is None or not isfinite(seconds) or seconds <= 0.0:
        return report
    return replace(report or LoadReport(), retry_after=min(seconds, _LONGEST_REST_S))


def _seconds(rest: str, headers: Mapping[str, str], wall: Callable[[], float]) -> float | None:
    """``Retry-After`` as seconds from the response on (RFC 9110, section 10.2.3)."""
    try:
        return float(rest)
    except ValueError:
        until = _date(rest)
    if until is None:
        return None
    sent = _date(headers.get(_DATE, ""))  # the server's own clock, which ours may be far from
    return until - (wall() if sent is None else sent)


def _date(text: str) -> float | None:
    """Unix seconds of an HTTP date, in any of its three forms; all are in UTC."""
    try:
        found = parsedate_tz(text)
        return None if found is None else float(timegm(found[:6]) - (found[9] or 0))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


class HttpAttempts:
    """The rules of one cluster.

    Args:
        plans: what may run more than once.
        budget: of further attempts.
        clock: monotonic seconds.
        random: for the pauses.
        balancer: who chooses; None: nobody watches.
        observer: who watches; None: nobody.
    """

    __slots__ = (
        "_others", "_plans", "_retries", "balancer", "budget", "clock", "latencies", "observer",
        "random",
    )  # fmt: skip

    def __init__(
        self,
        plans: HttpPlans,
        budget: Budget,
        clock: Callable[[], float],
        random: Random,
        balancer: Balancer | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._plans = plans
        self.budget = budget
        self.clock = clock
        self.random = random
        self.balancer = balancer
        self.observer = observer
        self.latencies: dict[str, LatencyQuantile] = {}
        self._retries, self._others = plans.of({})

    def follow(self, service: ServicePort | None) -> None:
        """Take what the Service's owner declares."""
        repeatable = None if service is None else service.repeatable
        self._retries, self._others = self._plans.of(told_of(repeatable))
        self.budget.allow(RATIO if repeatable is None else repeatable.budget)

    def of(self, method: str) -> Retry | None:
        """What is declared of a method; None: it runs once."""
        return self._retries.get(method, self._others)

    @property
    def is_simple(self) -> bool:
        """Whether all methods are as ``is_plain`` says, while nobody wants a call's details."""
        declared = (*self._retries.values(), self._others)
        return self.observer is None and all(each is None or each is ONCE for each in declared)

    def is_plain(self, method: str) -> bool:
        """Whether its attempts follow one another without a time of their own, and nobody observes them."""
        retry = self._retries.get(method, self._others)
        return (retry is None or retry is ONCE) and self.observer is None and not WANTED.now

    def latency(self, method: str, quantile: float) -> LatencyQuantile:
        """What is known of a method's latencies."""
        found = self.latencies.get(method)
        if found is None or found.quantile != quantile:
            found = self.latencies[method] = LatencyQuantile(quantile)
        return found


class HttpCall:
    """One request's attempts: each ``leaves``, ends, and ``after`` says what follows.

    Args:
        rules: of the cluster.
        method: in capitals.
        repeatable: whether the body can be sent a second time.
        patience: the longest pause that the caller would wait for [s].
        connect_s: the longest that the caller would wait for a connection [s]; None: for ever.

    Attributes:
        retry: what was declared; None: nothing, or the body can't be sent again.
        been: where the request has been, in order.
        hedges: whether attempts may overlap.
        attempt_s: the longest that one attempt may take until it has an answer [s]; None: no limit of its own.
    """

    __slots__ = (
        "_begin",
        "_connect_s",
        "_course",
        "_latency",
        "_left_at",
        "_method",
        "_patience",
        "_repeatable",
        "_rules",
        "attempt_s",
        "been",
        "hedges",
        "retry",
    )

    def __init__(
        self,
        rules: HttpAttempts,
        method: str,
        *,
        repeatable: bool,
        patience: float | None = None,
        connect_s: float | None = None,
    ) -> None:
        self._rules = rules
        self._method = method
        self._patience = patience
        self._connect_s = _LOOKS_S if connect_s is None else connect_s
        self._left_at = 0.0
        self._repeatable = repeatable
        self._course: Course | None = None
        self._latency: LatencyQuantile | None = None
        self.retry = retry = rules.of(method) if repeatable else None
        self.been: Sequence[Node] = ()
        if retry is None or retry is ONCE:
            self.hedges = False
            self.attempt_s: float | None = None
        else:
            self.hedges = retry.hedges
            self.attempt_s = retry.attempt_timeout_s

    @property
    def course(self) -> Course:
        """What may follow; made when it is asked for first: most requests end well without it."""
        if self._course is None:
            rules, retry = self._rules, self.retry
            now = self._begin = rules.clock()
            if retry is not None and retry.hedge_quantile is not None:
                self._latency = rules.latency(self._method, retry.hedge_quantile)
            hedge_s = None if self._latency is None else self._latency.seconds()
            self._course = Course(retry, rules.budget, rules.random, now, hedge_s=hedge_s)
        return self._course

    def leaves(self, pick: Pick) -> End | None:
        """An attempt leaves; what comes back is told its status at its end, if it is anything."""
        node = pick.node
        if not self.been:
            self._left_at = pick.started
        self.been = (*self.been, node)
        rules = self._rules
        observer = joined(rules.observer) if WANTED.now else rules.observer
        if observer is None or rules.balancer is None:
            return None
        sent = Sent("http", rules.balancer, self._method, node.endpoint, len(self.been))
        return observer.attempt(sent)

    def broken(self, broke: Broke, end: End | None, *, own_time: bool = False) -> Ended:
        """An attempt ended without a response.

        Args:
            broke: how.
            end: what ``leaves`` gave.
            own_time: it took longer than an attempt may; else a timeout is the caller's, whose time is up.
        """
        if end is not None:
            end(broke.name)
        if broke is Broke.UNREACHED:
            if self._looks_on():
                return Ended(LOST, unsent=True)
            return Ended(LOST if self.hedges else _NO_STATUS)  # others may be under way
        if broke in {Broke.UNREAD, Broke.REFUSED}:  # its body has begun to be read
            return Ended(LOST, unsent=self._repeatable)
        lost = broke in {Broke.LOST, Broke.FAULTY}
        return Ended(LOST if lost else _NO_STATUS, timed_out=own_time)

    def _looks_on(self) -> bool:
        """Whether a request that reached nobody goes elsewhere: to one other, and on while the caller waits."""
        rules = self._rules
        if len(self.been) == 1 and rules.balancer is not None and len(rules.balancer.nodes) > 1:
            return True  # even if the first took all of his time
        return rules.clock() - self._left_at < self._connect_s

    def answered(self, status: int, report: LoadReport | None, end: End | None) -> Ended | None:
        """An attempt brought a response; None: nobody would ask for another."""
        if end is not None:
            end(str(status))
        retry = self.retry
        if status < CLIENT_ERROR or retry is None or status not in retry.on:
            # Those that lose come later, and are not the request's.
            latency, self._latency = self._latency, None
            if latency is not None:
                latency.record(self._rules.clock() - self._begin)
            if self._course is None:
                self._rules.budget.earn()
            return None
        rest = None if retry is ONCE or report is None else report.retry_after
        if rest is not None and self._patience is not None and rest > self._patience:
            rest = _NEVER
        return Ended(status, pushback=rest)

    def after(self, ended: Ended | None) -> float | None:
        """Of attempts that follow one another: the pause before the next [s]; None: this was the last.

        Args:
            ended: how the last one did.
        """
        if ended is None:
            return None
        course, now = self.course, self._rules.clock()
        verdict = course.ended(now, ended)
        if verdict is Verdict.AGAIN:
            return 0.0
        at = course.next_at
        return max(0.0, at - now) if at is not None and course.due(at) else None
