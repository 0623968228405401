"""What the end of one HTTP attempt means, and when another endpoint may be asked. Pure.

Safe methods may be repeated by RFC 9110, section 9.2.2; a request that never reached an endpoint,
since no connection came about, may be repeated whatever its method.
"""

from __future__ import annotations

import enum
from calendar import timegm
from collections.abc import Callable, Mapping
from dataclasses import replace
from email.utils import parsedate_tz
from math import isfinite

from trimtab.attempt import Budget
from trimtab.balancer import Balancer
from trimtab.client.call_details import WANTED, joined
from trimtab.client.observing import End, Observer, Sent
from trimtab.load_codec import HEADER, decode
from trimtab.load_report import LoadReport
from trimtab.model import Endpoint
from trimtab.policies import Outcome

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
RETRY_AFTER = "retry-after"
_DATE = "date"

_CLIENT_ERROR = 400
_SERVER_ERROR = 500
_REQUEST_TIMEOUT = 408
_TOO_MANY = 429
_NOT_IMPLEMENTED = 501
_UNAVAILABLE = 503
_LONGEST_REST_S = 60.0

MOST_TRIES = 10
"""Endpoints asked for one request that none of them accepts a connection for."""


class Broke(enum.Enum):
    """How an attempt without a response ended.

    UNREACHED: no connection came about, so nothing was sent. LOST: it broke after that.
    TIMEOUT: no response in time. FAULTY: what came back was no HTTP. LOCAL: the caller's own doing
    (cancelled, pool full, bad request).
    """

    UNREACHED = enum.auto()
    LOST = enum.auto()
    TIMEOUT = enum.auto()
    FAULTY = enum.auto()
    LOCAL = enum.auto()

    @property
    def outcome(self) -> Outcome:
        """What it means to a policy."""
        return _OUTCOMES[self]


_OUTCOMES = {
    Broke.UNREACHED: Outcome.FAILURE,
    Broke.LOST: Outcome.FAILURE,
    Broke.TIMEOUT: Outcome.TIMEOUT,
    Broke.FAULTY: Outcome.FAILURE,
    Broke.LOCAL: Outcome.CANCELLED,
}


def outcome_of_http(status: int) -> Outcome:
    """Classify a status: 503 and 429 say overloaded, other 5xx but 501 count against the endpoint."""
    if status < _CLIENT_ERROR:
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


class HttpCall:
    """Whether one request may be tried again, on another endpoint.

    Args:
        budget: of the cluster.
        method: in capitals.
        repeatable: whether the body can be sent a second time.
        balancer: who chooses; None: nobody watches.
        observer: who watches; None: nobody.
    """

    __slots__ = ("_again", "_balancer", "_budget", "_end", "_method", "_observer", "_tries")

    def __init__(
        self,
        budget: Budget,
        method: str,
        *,
        repeatable: bool,
        balancer: Balancer | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._budget = budget
        self._again = repeatable and method in IDEMPOTENT
        self._tries = 1
        self._method = method
        self._balancer = balancer
        self._observer = observer
        self._end: End | None = None
        budget.earn()

    def leaves(self, endpoint: Endpoint) -> None:
        """An attempt leaves; it ends with ``after_break``, ``after_answer`` or ``given_up``."""
        observer = joined(self._observer) if WANTED.now else self._observer
        if observer is not None and self._balancer is not None:
            sent = Sent("http", self._balancer, self._method, endpoint, self._tries)
            self._end = observer.attempt(sent)

    def given_up(self) -> None:
        """The caller cancelled it."""
        self._tell("CANCELLED")

    def _tell(self, status: str) -> None:
        if self._end is not None:
            self._end(status)
            self._end = None

    def after_break(self, broke: Broke) -> bool:
        """May it leave again after an attempt without a response?

        UNREACHED costs no budget: no application saw it. A timeout is never tried again: the
        caller's time is up.
        """
        self._tell(broke.name)
        self._tries += 1
        if broke is Broke.UNREACHED:
            return self._tries <= MOST_TRIES
        return broke is Broke.LOST and self._retry()

    def after_answer(self, status: int) -> bool:
        """May it leave again after this status? Only 503 is worth it, and once."""
        self._tell(str(status))
        if status != _UNAVAILABLE:
            return False
        self._tries += 1
        return self._retry()

    def _retry(self) -> bool:
        if not self._again:
            return False
        self._again = False
        return self._budget.spend()
