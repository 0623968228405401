"""What a Service's ``trimtab.dev/`` annotations ask for, parsed once, here.

A bad value becomes a ``Problem`` and the default is used; nothing else is touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from trimtab import policies
from trimtab.discovery import ReportProblem
from trimtab.discovery.kube_objects import Service, describe, short
from trimtab.model import PolicyConfig, Problem

PREFIX = "trimtab.dev/"
POLICY = PREFIX + "policy"
SLOW_START = PREFIX + "slow-start"
ZONE = PREFIX + "zone"
KNOWN = {
    POLICY: "which strategy picks: a registered policy's name",
    SLOW_START: "how long a new endpoint's share of requests grows; 0 is off",
    ZONE: "whether clients prefer endpoints in their own zone",
}
_ZONES = ("prefer", "strict", "off")
_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)(ms|s|m)|0")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0}
_LONGEST_S = 3600.0


def policy_of(service: Service, report: ReportProblem) -> PolicyConfig | None:
    """The policy that the Service asks for, its judges' parameters included.

    None leaves everything to the client.
    """
    annotations = service.metadata.annotations or {}

    def refuse(key: str, fix: str) -> None:
        where = describe("Service", service.metadata)
        value = short(service.metadata.annotation(key))
        report(Problem(where, f"metadata.annotations[{key}]", value, f"{fix}; the default is used"))

    name: str | None = None
    params: dict[str, str | float | bool] = {}
    if POLICY in annotations:
        name = service.metadata.annotation(POLICY)
        if name not in policies.names():
            refuse(POLICY, f"choose one of {', '.join(policies.names())}")
            name = None
    if SLOW_START in annotations:
        seconds = _seconds(service.metadata.annotation(SLOW_START))
        if seconds is None:
            refuse(
                SLOW_START, "write a duration of at most an hour, such as 500ms, 30s or 2m; or 0"
            )
        else:
            params["slow_start_s"] = seconds
    if ZONE in annotations:
        zone = service.metadata.annotation(ZONE)
        if zone not in _ZONES:
            refuse(ZONE, f"choose one of {', '.join(_ZONES)}")
        else:
            params["zone"] = zone
    if name is None and not params:
        return None
    return PolicyConfig.of(name or policies.DEFAULT, **params)


def _seconds(text: str) -> float | None:
    found = _DURATION.fullmatch(text)
    if found is None:
        return None
    number, unit = found.groups()
    seconds = float(number) * _UNITS_S[unit] if number else 0.0
    return seconds if seconds <= _LONGEST_S else None


def unknown_annotations(service: Service) -> Iterator[Problem]:
    """The ``trimtab.dev/`` annotations that this version does not know, and so passes over."""
    for key in sorted(service.metadata.annotations or {}):
        if key.startswith(PREFIX) and key not in KNOWN:
            yield Problem(
                describe("Service", service.metadata),
                f"metadata.annotations[{key}]",
                short(service.metadata.annotation(key)),
                f"it is not known here and does nothing; known: {', '.join(KNOWN)}",
            )
