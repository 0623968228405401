"""What is declared of HTTP methods: which requests may run more than once, and when. Pure.

What a caller says of statuses is completed: a connection that broke has no status, and may always be
followed by another attempt where any may.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from trimtab.attempt import EVERYTHING, Retry, retry_of
from trimtab.errors import ConfigError
from trimtab.model import Repeatable

IDEMPOTENT = ("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE")
"""RFC 9110, section 9.2.2."""

LOST = 14
"""Stands for a connection that broke. gRPC calls it UNAVAILABLE; HTTP has no such status."""

UNAVAILABLE = 503
_ERRORS = range(400, 600)

_AS_HTTP = {
    "UNAVAILABLE": (502, 503, 504),
    "RESOURCE_EXHAUSTED": (429,),
    "DEADLINE_EXCEEDED": (504,),
    "INTERNAL": (500,),
}
"""What a Service's word of gRPC statuses means for HTTP."""

ONCE = Retry(attempts=2, on=(LOST, UNAVAILABLE), backoff_s=0.0)
"""Of idempotent methods, where nothing was declared: another endpoint is asked once, at once."""


class HttpPlans:
    """What may run more than once, by method.

    Args:
        retry: of idempotent methods; None: ``ONCE``.
        retries: of these methods, before ``retry``; to name POST here declares it safe to run more
            than once.

    Raises:
        ConfigError: one is no ``Retry``, ``retries`` is no mapping, a method is not in capitals, or a status is none of HTTP's.
    """

    def __init__(
        self, retry: Retry | None = None, retries: Mapping[str, Retry] | None = None
    ) -> None:
        if not isinstance(retries, Mapping | None):
            raise ConfigError(
                f"retries: {retries!r} is no mapping; give them by method, such as "
                "{'POST': trimtab.Retry(on=[503])}"
            )
        usual = ONCE if retry is None else _completed("retry", retry)
        self._said = retry is not None
        self._plans = dict.fromkeys(IDEMPOTENT, usual)
        self._named = frozenset(retries or ())
        for method, given in (retries or {}).items():
            if not isinstance(method, str) or not method or method != method.upper():
                raise ConfigError(
                    f"retries: {method!r} is no HTTP method in capitals, such as 'POST'"
                )
            self._plans[method] = _completed(f"retries[{method!r}]", given)

    def of(self, told: Mapping[str, Retry]) -> tuple[Mapping[str, Retry], Retry | None]:
        """What is declared, by method, and of all other methods; None: they run once.

        Args:
            told: by the Service's owner (``told_of``); what the caller said of a method goes first.
        """
        others = told.get(EVERYTHING)
        found = {m: r for m, r in told.items() if m != EVERYTHING}
        for method, own in self._plans.items():
            if self._said or method in self._named:
                found[method] = own
            elif others is None:
                found.setdefault(method, own)
        return found, others


def told_of(repeatable: Repeatable | None) -> Mapping[str, Retry]:
    """What a Service's owner declares, by HTTP method; ``*`` is any."""
    if repeatable is None:
        return {}
    on = {status for name in repeatable.on for status in _AS_HTTP.get(name, ())}
    retry = replace(retry_of(repeatable), on=on | {LOST})
    return {m: retry for m in repeatable.methods if not m.startswith("/")}


def _completed(field: str, retry: Retry) -> Retry:
    if not isinstance(retry, Retry):
        raise ConfigError(
            f"{field}={retry!r} is no trimtab.Retry, such as trimtab.Retry(on=[502, 503])"
        )
    on = set(cast("frozenset[int]", retry.on))
    if LOST in on:  # gRPC's word, and what a Retry says that names no status
        on.add(UNAVAILABLE)
    wrong = [code for code in on if code != LOST and code not in _ERRORS]
    if wrong:
        raise ConfigError(
            f"{field}: on={sorted(wrong)} are no HTTP errors; give numbers from 400 to 599"
        )
    return replace(retry, on=on | {LOST})
