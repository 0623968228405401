"""What a Service's annotations say of further attempts: which methods may run more than once, and how.

Nothing is repeated that ``retry-methods`` doesn't name. A bad value there declares nothing; one in the
others becomes a ``Problem`` and its default is used.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from trimtab.discovery import ReportProblem
from trimtab.discovery.kube_objects import Service, describe, short
from trimtab.grpc_status import GRPC_CODES
from trimtab.model import Problem, Repeatable

METHODS = "trimtab.dev/retry-methods"
ON = "trimtab.dev/retry-on"
ATTEMPTS = "trimtab.dev/retry-attempts"
HEDGE_AFTER = "trimtab.dev/retry-hedge-after"
BUDGET = "trimtab.dev/retry-budget"
KNOWN = {
    METHODS: "which methods are safe to run more than once; nothing else is repeated",
    ON: "with `retry-methods`: after which gRPC statuses another attempt may follow",
    ATTEMPTS: "with `retry-methods`: the most attempts, the first included",
    HEDGE_AFTER: "with `retry-methods`: when another attempt leaves although no answer came: a time, or a quantile of the latencies seen lately",
    BUDGET: "with `retry-methods`: further attempts as a part of a client's requests",
}

_GRPC = re.compile(r"/?([A-Za-z_][\w.]{0,199})/([A-Za-z_]\w{0,99})?")
_HTTP = re.compile(r"[A-Z]{3,10}")
_MOST_METHODS = 64
_ATTEMPTS = re.compile(r"[2-5]")  # gRFC A6: at most 5
_AFTER = re.compile(r"(\d{1,5}(?:\.\d{1,3})?)(ms|s)")
_QUANTILE = re.compile(r"p(\d{2}(?:\.\d)?)")
_LEAST_QUANTILE = 0.01
_LONGEST_HEDGE_S = 60.0
_PERCENT = re.compile(r"(\d{1,3})%")


def repeatable_of(service: Service, report: ReportProblem) -> Repeatable | None:
    """What the Service's owner declares; None: nothing."""
    annotations = service.metadata.annotations or {}
    said = [key for key in KNOWN if key in annotations]
    if not said:
        return None

    def refuse(key: str, fix: str) -> None:
        where = describe("Service", service.metadata)
        value = short(service.metadata.annotation(key))
        report(Problem(where, f"metadata.annotations[{key}]", value, fix))

    if METHODS not in annotations:
        refuse(
            said[0], f"it does nothing without {METHODS}, which names what may run more than once"
        )
        return None
    methods = _methods(service.metadata.annotation(METHODS))
    if methods is None:
        refuse(
            METHODS,
            f"name at most {_MOST_METHODS} methods with commas between them, such as "
            "shop.Orders/Get, shop.Orders/ for all of a gRPC service, GET, or *; none is repeated",
        )
        return None
    found: dict[str, Any] = {}
    for key, read, fix in _READERS:
        if key in annotations:
            values = read(service.metadata.annotation(key))
            if values is None:
                refuse(key, f"{fix}; the default is used")
            else:
                found |= values
    return Repeatable(methods, **found)


def _methods(text: str) -> tuple[str, ...] | None:
    found = set()
    for name in (part.strip() for part in text.split(",")):
        grpc = _GRPC.fullmatch(name)
        if grpc is not None:
            found.add(f"/{grpc[1]}/{grpc[2] or ''}")
        elif name == "*" or _HTTP.fullmatch(name):
            found.add(name)
        else:
            return None
    return tuple(sorted(found)) if len(found) <= _MOST_METHODS else None


def _statuses(text: str) -> dict[str, Any] | None:
    names = {part.strip() for part in text.split(",")}
    if not names <= GRPC_CODES.keys() - {"OK"}:
        return None
    return {"on": tuple(sorted(names))}


def _attempts(text: str) -> dict[str, Any] | None:
    return {"attempts": int(text)} if _ATTEMPTS.fullmatch(text) else None


def _hedge(text: str) -> dict[str, Any] | None:
    if quantile := _QUANTILE.fullmatch(text):
        part = round(float(quantile[1]) / 100, 3)  # 0.999 is what clients take at most
        return {"hedge_quantile": part} if part >= _LEAST_QUANTILE else None
    after = _AFTER.fullmatch(text)
    if after is None:
        return None
    seconds = float(after[1]) * (0.001 if after[2] == "ms" else 1.0)
    return {"hedge_after_s": seconds} if seconds <= _LONGEST_HEDGE_S else None


def _budget(text: str) -> dict[str, Any] | None:
    percent = _PERCENT.fullmatch(text)
    most = 100
    return {"budget": int(percent[1]) / 100} if percent and int(percent[1]) <= most else None


_READERS: tuple[tuple[str, Callable[[str], dict[str, Any] | None], str], ...] = (
    (ON, _statuses, "name gRPC statuses with commas between them, such as UNAVAILABLE, ABORTED"),
    (ATTEMPTS, _attempts, "write a whole number from 2 to 5"),
    (
        HEDGE_AFTER,
        _hedge,
        "write a time of at most a minute, such as 50ms, or a quantile such as p95",
    ),
    (BUDGET, _budget, "write a percentage from 0% to 100%"),
)
