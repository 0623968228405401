"""One request's attempts: when one follows, and which ends the request. gRFC A6, without I/O.

A door makes attempts and says what came of them; this says what to do next. Two rules come first:
a request that provably reached no server may leave again whatever it is, and one that did reach a
server leaves again only if its caller declared that it may run more than once (a ``Retry``).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from random import Random

from trimtab.attempt.budget import Budget
from trimtab.attempt.retry import Retry

MOST_UNSENT = 10
"""Attempts that reached no server before the error is the caller's."""

_JITTER = 0.2


class Verdict(enum.Enum):
    """What the end of an attempt means.

    FINAL: it ends the request; cancel the other attempts. AGAIN: make another attempt now. WAIT:
    do nothing until ``Course.next_at`` or until another attempt ends.
    """

    FINAL = enum.auto()
    AGAIN = enum.auto()
    WAIT = enum.auto()


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt ended.

    Attributes:
        code: gRPC's status number or HTTP's.
        good: whether it is an answer that nobody would ask for again.
        unsent: it provably reached no server.
        pushback: when the server wants the next one [s from now]; negative: never.
        timed_out: its own time was up (``Course.attempt_timeout``), not the request's.
        spent: the request can't be sent again: it is a stream of which not all messages are kept.
    """

    code: int
    good: bool = False
    unsent: bool = False
    pushback: float | None = None
    timed_out: bool = False
    spent: bool = False


class Course:
    """The attempts of one request. The first is under way when this is made.

    Args:
        retry: what the caller declared; None: nothing, so only unsent attempts are repeated.
        budget: of the cluster.
        random: for the pauses.
        now: [s, monotonic].
        deadline: of the request, by the same clock; None: none. All attempts share it.
        hedge_s: what ``LatencyQuantile`` says for ``retry.hedge_quantile``; None: not yet known.
        waits: whether it waits for an endpoint for as long as it may (``wait_for_ready``): then it leaves
            again however often it reached nobody.

    Attributes:
        made: attempts so far, without those that reached nobody.
        running: attempts under way.
        next_at: when to ask ``due``; None: never, until an attempt ends.
        committed: a message went to the caller: there is no other attempt from here on.
    """

    __slots__ = ("_budget", "_deadline", "_hedge_s", "_paid", "_random", "_retry", "_stopped",
                 "_unsent", "_waits", "committed", "made", "next_at", "running")  # fmt: skip

    def __init__(
        self,
        retry: Retry | None,
        budget: Budget,
        random: Random,
        now: float,
        deadline: float | None = None,
        hedge_s: float | None = None,
        *,
        waits: bool = False,
    ) -> None:
        self._retry = retry
        self._budget = budget
        self._random = random
        self._deadline = deadline
        self._hedge_s = hedge_s
        if retry is not None and retry.hedge_after_s is not None:
            self._hedge_s = retry.hedge_after_s
        self._paid = False
        self._stopped = retry is None
        self._unsent = 0
        self._waits = waits
        self.made = 1
        self.running = 1
        self.committed = False
        self.next_at: float | None = None
        budget.earn()
        self._plan_hedge(now)

    @property
    def hedges(self) -> bool:
        """Whether attempts may overlap."""
        return self._retry is not None and self._retry.hedges

    def left(self, now: float) -> float | None:
        """What is left of the request's time [s]; None: it has for ever."""
        return None if self._deadline is None else max(0.0, self._deadline - now)

    @property
    def first_message_s(self) -> float | None:
        """How long an attempt may keep its caller waiting for the first message [s]; None: for ever."""
        return None if self._retry is None else self._retry.attempt_timeout_s

    def attempt_timeout(self, now: float) -> float | None:
        """How long an attempt that begins now may take [s]; None: for ever."""
        left, own = self.left(now), self.first_message_s
        return left if own is None else own if left is None else min(own, left)

    def due(self, now: float) -> bool:
        """Whether to make another attempt now. False with nothing running: the last end is final."""
        if self.next_at is None or now < self.next_at:
            return False
        self.next_at = None
        if self._closed(now) or not (self._paid or self._budget.spend()):
            return False
        self._paid = False
        self.made += 1
        self.running += 1
        self._plan_hedge(now)
        return True

    def ended(self, now: float, end: Ended) -> Verdict:
        """An attempt ended; AGAIN counts the next one as running already."""
        self.running -= 1
        if end.good:
            self._budget.succeeded()
            return self._final()
        if self.committed or self._late(now):
            return self._final()
        if end.unsent and not end.spent and (self._waits or self._unsent < MOST_UNSENT):
            self._unsent += 1
            self.running += 1
            return Verdict.AGAIN
        retry = self._retry
        if retry is None:
            return self._final()
        retryable = end.timed_out or end.code in retry.on
        refused = end.pushback is not None and end.pushback < 0.0
        if retryable or refused:
            self._budget.failed()
        if refused or end.spent:
            self._stop()
        elif not retryable:
            return self._final()
        if not self._closed(now):
            self._plan_next(now, end.pushback)
        return Verdict.WAIT if self.running or self.next_at is not None else self._final()

    def commit(self) -> None:
        """A message goes to the caller: from here on there is no other attempt."""
        if not self.committed:
            self._budget.succeeded()
        self.committed = True
        self._stop()

    def _plan_next(self, now: float, pushback: float | None) -> None:
        assert self._retry is not None  # noqa: S101 - for the type checker: closed otherwise
        if pushback is None:
            pushback = 0.0 if self._retry.hedges else self._pause()
        at = now + pushback
        if (self._deadline is not None and at >= self._deadline) or not (
            self._paid or self._budget.spend()
        ):
            self._stop()
            return
        self._paid = True
        self.next_at = at

    def _pause(self) -> float:
        retry = self._retry
        assert retry is not None  # noqa: S101 - as above
        pause = min(retry.most_backoff_s, retry.backoff_s * retry.multiplier ** (self.made - 1))
        return float(pause * (1.0 + _JITTER * (2.0 * self._random.random() - 1.0)))

    def _plan_hedge(self, now: float) -> None:
        retry = self._retry
        if retry is not None and self._hedge_s is not None and not self._closed(now):
            self.next_at = now + self._hedge_s

    def _closed(self, now: float) -> bool:
        retry = self._retry
        return self._stopped or retry is None or self.made >= retry.attempts or self._late(now)

    def _late(self, now: float) -> bool:
        return self._deadline is not None and now >= self._deadline

    def _stop(self) -> None:
        self._stopped = True
        self.next_at = None

    def _final(self) -> Verdict:
        self._stop()
        return Verdict.FINAL
