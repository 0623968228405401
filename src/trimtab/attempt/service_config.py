"""gRPC's service config (grpc/doc/service_config.md): what it says of attempts, and the rest.

``retryPolicy``, ``hedgingPolicy`` and ``retryThrottling`` are ours: with one native channel for
each endpoint, gRPC's own retries would go to the endpoint that has just failed, on top of ours. The
rest of the configuration goes to the native channels unchanged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from trimtab.attempt.budget import Throttle
from trimtab.attempt.retry import Retry
from trimtab.errors import ConfigError
from trimtab.grpc_status import GRPC_CODES
from trimtab.model import is_number

_DURATION = re.compile(r"\d+(\.\d{1,9})?s")
_MOST_ATTEMPTS = 5  # gRFC A6: larger values are taken as 5


@dataclass(frozen=True, slots=True)
class Plan:
    """What is said of one method.

    Attributes:
        retry: whether it may run more than once.
        timeout_s: the longest that a call may take [s].
        waits: whether a call that doesn't say so itself waits for an endpoint (``wait_for_ready``).
    """

    retry: Retry | None = None
    timeout_s: float | None = None
    waits: bool | None = None


NOTHING = Plan()


@dataclass(frozen=True, slots=True)
class MethodPlans:
    """What is said of all methods.

    Attributes:
        plans: by ``/package.Service/Method``, ``/package.Service/`` or "" for all.
        throttle: (maxTokens, tokenRatio), or None.
        rest: the configuration without what is ours, as JSON for native channels; "": nothing.
    """

    plans: Mapping[str, Plan] = field(default_factory=dict)
    throttle: tuple[float, float] | None = None
    rest: str = ""

    def __bool__(self) -> bool:
        return any(plan.retry is not None for plan in self.plans.values())

    def of(self, method: str) -> Plan:
        """What is said of ``/package.Service/Method``; the closest name counts."""
        found = self.plans.get(method)
        if found is None:
            found = self.plans.get(method[: method.rfind("/") + 1])
        return found or self.plans.get("", NOTHING)

    def made_throttle(self) -> Throttle | None:
        """A new throttle as configured, for one cluster."""
        return None if self.throttle is None else Throttle(*self.throttle)


NO_PLANS = MethodPlans()


def parse(text: str) -> MethodPlans:
    """Read a service config.

    Raises:
        ConfigError: it is no JSON object, or what it says of attempts is wrong.
    """
    try:
        config = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"service config: {error}: give a JSON object") from None
    if not isinstance(config, dict):
        raise ConfigError(f"service config: {text!r:.60} is not a JSON object")
    plans: dict[str, Plan] = {}
    for place, method in enumerate(_list(config, "methodConfig", "service config")):
        where = f"service config: methodConfig[{place}]"
        plan = _plan(method, where)
        for name in _list(method, "name", where):
            service, one = name.get("service", ""), name.get("method", "")
            plans[f"/{service}/{one}" if service else ""] = plan
        method.pop("retryPolicy", None)
        method.pop("hedgingPolicy", None)
    throttle = config.pop("retryThrottling", None)
    return MethodPlans(plans, None if throttle is None else _throttle(throttle), json.dumps(config))


def _plan(method: dict[str, Any], where: str) -> Plan:
    retry, hedge = method.get("retryPolicy"), method.get("hedgingPolicy")
    if retry is not None and hedge is not None:
        raise ConfigError(f"{where}: has retryPolicy and hedgingPolicy; leave one out (gRFC A6)")
    timeout = _seconds(method, "timeout", where) if "timeout" in method else None
    waits = method.get("waitForReady")
    if not isinstance(waits, bool | None):
        raise ConfigError(f"{where}.waitForReady: {waits!r} is neither true nor false")
    if retry is not None:
        return Plan(_retry(retry, f"{where}.retryPolicy"), timeout, waits)
    if hedge is not None:
        return Plan(_hedge(hedge, f"{where}.hedgingPolicy"), timeout, waits)
    return Plan(None, timeout, waits)


def _retry(said: Any, where: str) -> Retry:
    codes = _codes(said, "retryableStatusCodes", where)
    if not codes:
        raise ConfigError(f"{where}.retryableStatusCodes: is empty; name a status")
    first = _seconds(said, "initialBackoff", where)
    most = _seconds(said, "maxBackoff", where)
    multiplier = said.get("backoffMultiplier")
    if not _above_zero(multiplier) or not first or not most:
        raise ConfigError(
            f"{where}: initialBackoff, maxBackoff and backoffMultiplier must all be above 0"
        )
    timeout = (
        _seconds(said, "perAttemptRecvTimeout", where) if "perAttemptRecvTimeout" in said else None
    )
    return Retry(
        _attempts(said, where),
        codes,
        backoff_s=min(first, most),
        most_backoff_s=most,
        multiplier=float(multiplier),
        attempt_timeout_s=timeout,
    )


def _hedge(said: Any, where: str) -> Retry:
    delay = _seconds(said, "hedgingDelay", where) if "hedgingDelay" in said else 0.0
    codes = _codes(said, "nonFatalStatusCodes", where)
    return Retry(_attempts(said, where), codes, hedge_after_s=delay)


def _attempts(said: Any, where: str) -> int:
    most = said.get("maxAttempts") if isinstance(said, dict) else None
    if type(most) is not int or most < 2:  # noqa: PLR2004 - gRFC A6
        raise ConfigError(f"{where}.maxAttempts: {most!r} is not a whole number of 2 or more")
    return min(most, _MOST_ATTEMPTS)


def _codes(said: Any, field_name: str, where: str) -> frozenset[int]:
    found = set()
    for code in said.get(field_name, ()) if isinstance(said, dict) else ():
        number = GRPC_CODES.get(code) if isinstance(code, str) else code
        if type(number) is not int or not 0 < number < len(GRPC_CODES):
            raise ConfigError(f"{where}.{field_name}: {code!r} is not a status such as UNAVAILABLE")
        found.add(number)
    return frozenset(found)


def _throttle(said: Any) -> tuple[float, float]:
    most = said.get("maxTokens") if isinstance(said, dict) else None
    ratio = said.get("tokenRatio") if isinstance(said, dict) else None
    if not _above_zero(most) or most > 1000 or not _above_zero(ratio):  # noqa: PLR2004 - gRFC A6
        raise ConfigError(
            f"service config: retryThrottling: {said!r}: maxTokens must be above 0 and up to 1000, "
            "tokenRatio above 0"
        )
    return float(most), float(ratio)


def _above_zero(value: Any) -> TypeGuard[float]:
    return is_number(value) and value > 0


def _seconds(said: Any, field_name: str, where: str) -> float:
    value = said.get(field_name) if isinstance(said, dict) else None
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        raise ConfigError(f"{where}.{field_name}: {value!r} is not a duration such as '0.1s'")
    return float(value[:-1])


def _list(said: dict[str, Any], field_name: str, where: str) -> list[dict[str, Any]]:
    found = said.get(field_name, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ConfigError(f"{where}.{field_name}: {found!r:.60} is not a list of objects")
    return found
