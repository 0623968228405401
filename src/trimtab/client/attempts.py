"""What a channel knows of further attempts: what was declared, the budget, where a request was."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from trimtab.attempt import (
    BUFFER_BYTES,
    NO_PLANS,
    Budget,
    Course,
    Ended,
    LatencyQuantile,
    MethodPlans,
    Plan,
    Recording,
    plans_of,
    pushback_of,
)
from trimtab.attempt.budget import RATIO
from trimtab.client.observing import Sent, plain
from trimtab.model import Repeatable, ServicePort

if TYPE_CHECKING:
    from trimtab.balancer import Balancer, Node, Pick

_DEADLINE_EXCEEDED = 4
_MOST_METHODS = 1000  # known by name: a proxy's callers may make names up


class Visit:
    """One attempt of a request that may have several.

    Attributes:
        been: where the request has been; shared by its attempts.
        pick: of where this one went; None: it has not left yet.
        number: of this one among those that left, from 1; 0: it has not.
    """

    __slots__ = ("been", "number", "pick")

    def __init__(self, been: list[Node]) -> None:
        self.been = been
        self.pick: Pick | None = None
        self.number = 0

    def at(self, pick: Pick) -> None:
        """It leaves for the endpoint that was picked."""
        self.pick = pick
        self.been.append(pick.node)
        self.number = len(
            self.been
        )  # not later: another may leave before an observer is told of this


trail: ContextVar[Visit | None] = ContextVar("trimtab_trail", default=None)
"""The attempt that is being placed; None: it is all of its request."""


def sent(balancer: Balancer, method: Any, node: Node, visit: Visit | None, unsent: int = 0) -> Sent:
    """What an observer is told of an attempt that leaves.

    Of a request that has no course (``visit`` is None), ``unsent`` attempts reached nobody before.
    """
    number = unsent + 1 if visit is None else visit.number
    alone = visit is None and not unsent
    return Sent("grpc", balancer, plain(method), node.endpoint, number, alone)


class Attempts:
    """The rules of one channel. Requests that nothing was declared of have nothing to do with it.

    Args:
        plans: by method.
        random: for the pauses.
        balancer: of the channel; knows what is in flight.
        buffer_bytes: how much of a request that is a stream is kept for further attempts.
    """

    def __init__(
        self,
        plans: MethodPlans,
        random: Random,
        balancer: Balancer,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:
        self._plans = plans
        self.buffer_bytes = buffer_bytes
        self._repeatable: Repeatable | None = None
        self._told = NO_PLANS
        self._known: dict[str, Plan] = {}
        self._random = random
        self._budget = Budget(
            throttle=plans.made_throttle(),
            lock=threading.Lock(),
            in_flight=lambda: balancer.in_flight,
        )
        self._latencies: dict[str, LatencyQuantile] = {}

    @property
    def any(self) -> bool:
        """Whether any method may run more than once, as far as is known."""
        return bool(self._plans or self._told)

    def follow(self, service: ServicePort | None) -> None:
        """Take what the Service's owner declares; what the caller said of a method goes first."""
        repeatable = None if service is None else service.repeatable
        if repeatable != self._repeatable:
            self._repeatable = repeatable
            self._told = plans_of(repeatable)
            self._known = {}
            self._budget.allow(RATIO if repeatable is None else repeatable.budget)

    def declares(self, method: str) -> bool:
        """Whether ``/package.Service/Method`` may run more than once."""
        return self._plan(method).retry is not None

    def follows(self, method: str, wait_for_ready: bool | None) -> bool:
        """Whether a call of it may leave again from above the pick: it may run more than once, or it waits."""
        return bool(self.waits(method, wait_for_ready)) or self.declares(method)

    def waits(self, method: str, wait_for_ready: bool | None) -> bool | None:
        """Its ``wait_for_ready``: the caller's word, else the configuration's."""
        return self._plan(method).waits if wait_for_ready is None else wait_for_ready

    def limit(self, method: str, timeout: float | None) -> float | None:
        """Its timeout [s]: the caller's or the configuration's, whichever is shorter; None: it has none."""
        limits = [each for each in (timeout, self._plan(method).timeout_s) if each is not None]
        return min(limits) if limits else None

    def _plan(self, method: str) -> Plan:
        known = self._known  # of what is told now: ``follow`` begins another
        found = known.get(method)
        if found is None:
            found = self._plans.of(method)
            if found.retry is None:
                found = replace(found, retry=self._told.of(method).retry)
            if len(known) < _MOST_METHODS:
                known[method] = found
        return found

    def begin(
        self,
        method: str,
        timeout: float | None,
        now: float,
        *,
        overlap: bool = True,
        waits: bool | None = False,
    ) -> Request:
        """A request that ``follows`` begins.

        Args:
            method: ``/package.Service/Method``.
            timeout: the caller's [s]; the configuration's own may be shorter.
            now: [s, monotonic].
            overlap: whether the door can wait for several attempts at once; else there are no hedges.
            waits: its ``wait_for_ready``.
        """
        plan = self._plan(method)
        retry = plan.retry
        if retry is not None and retry.hedges and not overlap:
            retry = replace(retry, hedge_after_s=None, hedge_quantile=None)
        limit = self.limit(method, timeout)
        deadline = None if limit is None else now + limit
        latency = None
        if retry is not None and retry.hedge_quantile is not None:
            latency = self._latency(method, retry.hedge_quantile)
        hedge_s = None if latency is None else latency.seconds()
        course = Course(
            retry, self._budget, self._random, now, deadline, hedge_s, waits=bool(waits)
        )
        return Request(course, now, deadline, latency)

    def _latency(self, method: str, quantile: float) -> LatencyQuantile:
        latencies = self._latencies
        name = method if method in latencies or len(latencies) < _MOST_METHODS else ""
        found = latencies.get(name)
        if found is None or found.quantile != quantile:
            found = latencies[name] = LatencyQuantile(quantile)
        return found


class Request:
    """One request on its course.

    Attributes:
        course: what may follow.
        been: where it has been.
        recording: what was sent of it, if it is a stream; None: it is one message, which is there.
    """

    __slots__ = ("_begin", "_deadline", "_latency", "been", "course", "recording")

    def __init__(
        self, course: Course, begin: float, deadline: float | None, latency: LatencyQuantile | None
    ) -> None:
        self.course = course
        self.been: list[Node] = []
        self.recording: Recording | None = None
        self._begin = begin
        self._deadline = deadline
        self._latency = latency

    @property
    def overlaps(self) -> bool:
        """Whether a further attempt may leave while one is under way."""
        return self.course.hedges

    @property
    def committed(self) -> bool:
        """Whether the attempt that runs is the last one, whatever comes of it."""
        recording = self.recording
        return self.course.committed or (recording is not None and not recording.repeatable)

    def opened(self, now: float) -> None:
        """The first message of a stream has come: it is the caller's, and there is no other attempt."""
        if self._latency is not None:
            self._latency.record(now - self._begin)
        self.commit()

    def commit(self) -> None:
        """The caller has seen an answer begin: there is no other attempt."""
        self.course.commit()
        self.let_go()

    def let_go(self) -> None:
        """Nothing is sent again."""
        if self.recording is not None:
            self.recording.commit()

    def ended(self, now: float, code: int, trailing: Any, *, unsent: bool = False) -> Ended:
        """How an attempt ended.

        Args:
            now: [s, monotonic].
            code: gRPC's status number.
            trailing: its trailing metadata.
            unsent: whether it provably reached nobody.
        """
        good = code == 0
        if good and self._latency is not None:
            self._latency.record(now - self._begin)
        in_time = self._deadline is None or now < self._deadline
        return Ended(
            code,
            good=good,
            unsent=unsent,
            pushback=None if good else pushback_of(trailing),
            timed_out=code == _DEADLINE_EXCEEDED and in_time,
            spent=not good and self.recording is not None and not self.recording.rewind(),
        )
