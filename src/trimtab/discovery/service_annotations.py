"""What a Service's ``trimtab.dev/`` annotations ask for, and its ``trafficDistribution``; parsed once.

A bad value becomes a ``Problem`` and the default is used; nothing else is touched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from trimtab import policies
from trimtab.discovery import ReportProblem, retry_annotations
from trimtab.discovery.kube_objects import Service, describe, short
from trimtab.discovery.static import snapshot_of
from trimtab.errors import ConfigError
from trimtab.model import PolicyConfig, Problem

PREFIX = "trimtab.dev/"
POLICY = PREFIX + "policy"
SLOW_START = PREFIX + "slow-start"
ZONE = PREFIX + "zone"
HASH_KEY = PREFIX + "hash-key"
SUBSET_SIZE = PREFIX + "subset-size"
HASH_TABLE = PREFIX + "hash-table"
OUTLIER_DETECTION = PREFIX + "outlier-detection"
MAX_REQUESTS = PREFIX + "max-requests"
FALLBACK = PREFIX + "fallback"
DISABLE = PREFIX + "disable"
EXPORT_TO = PREFIX + "export-to"
LOAD_REPORTS = PREFIX + "load-reports"
ENDPOINT_LABELS = PREFIX + "endpoint-labels"
WEIGHT = PREFIX + "weight"
"""Of a pod, not of a Service: its capacity beside that of the others."""
KNOWN = {
    POLICY: "which strategy picks: a registered policy's name",
    SLOW_START: "how long a new endpoint's share of requests grows; 0 is off",
    ZONE: "whether clients prefer endpoints in their own zone",
    HASH_KEY: "with `ring_hash`: the metadata or header that holds a request's key",
    SUBSET_SIZE: "how many of the endpoints each client uses",
    OUTLIER_DETECTION: "whether an endpoint that fails again and again is left out for a while",
    ENDPOINT_LABELS: "which labels of its pods clients are told, beside their weights and start times",
    MAX_REQUESTS: "how many requests an Envoy or native gRPC client has in flight; more fail",
    HASH_TABLE: "how an Envoy hashes with `ring_hash`",
    FALLBACK: "whom trimtab clients call while the Service has no endpoint",
    DISABLE: "`on`: round robin over all endpoints and nothing else, whatever the other annotations and a client's own `policy=` say",
    EXPORT_TO: "which namespaces' clients may see the Service besides its own",
    LOAD_REPORTS: "whether the control plane asks the endpoints themselves for their load",
    **retry_annotations.KNOWN,
}
DISABLED = PolicyConfig.of("round_robin", disable=True)
"""What native gRPC does without being told anything: no judges, no zones, no subsets."""
_SWITCH = {"on": True, "off": False}
_LOAD_REPORTS = {"out-of-band": True, "off": False}
_TABLES = ("ring", "maglev")
_MOST_REQUESTS = 2**32 - 1  # the field is a uint32
_ZONES = ("prefer", "strict", "off")
_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
"""Of ``spec.trafficDistribution``: each asks for ``zone: prefer``. ``PreferClose`` is the old name of
``PreferSameZone``. Node by node nobody balances here: a node's pods would be overrun by that node's
clients, and its zone is the nearest that can be weighed against load."""
_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)(ms|s|m)|0")
_HEADER = re.compile(r"[a-z0-9_.-]{1,100}")
_SIZE = re.compile(r"[1-9][0-9]{0,4}")
_LABEL = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_MOST_LABELS = 16
_COUNT = re.compile(r"[1-9][0-9]{0,9}")
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
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

    name = ""
    if POLICY in annotations:
        name = service.metadata.annotation(POLICY)
        if name not in policies.names():
            refuse(POLICY, f"choose one of {', '.join(policies.names())}")
            name = ""
    params: dict[str, str | float | bool] = {}
    for key, param, read, fix in _PARAMS:
        if key in annotations:
            value = read(service.metadata.annotation(key))
            if value is None or (key in {HASH_KEY, HASH_TABLE} and name != "ring_hash"):
                refuse(key, fix)
            else:
                params[param] = value
    if ZONE not in annotations and _prefers_near(service, report):
        params["zone"] = "prefer"
    if ENDPOINT_LABELS in annotations and endpoint_labels(service) is None:
        refuse(ENDPOINT_LABELS, f"name at most {_MOST_LABELS} labels, such as shard,model; or none")
    if not name and not params:
        return None
    return PolicyConfig.of(name or policies.DEFAULT, **params)


def _prefers_near(service: Service, report: ReportProblem) -> bool:
    asked = service.spec.trafficDistribution if service.spec else None
    if not asked or asked in _DISTRIBUTIONS:
        return bool(asked)
    where = describe("Service", service.metadata)
    fix = f"choose one of {', '.join(_DISTRIBUTIONS)}, or annotate {ZONE}; it is ignored"
    report(Problem(where, "spec.trafficDistribution", short(asked), fix))
    return False


def switched_off(service: Service, report: ReportProblem) -> bool:
    """Whether the Service's owner has switched balancing off."""
    if DISABLE not in (service.metadata.annotations or {}):
        return False
    text = service.metadata.annotation(DISABLE)
    if text not in _SWITCH:
        where = describe("Service", service.metadata)
        fix = f"choose one of {', '.join(_SWITCH)}; balancing stays on"
        report(Problem(where, f"metadata.annotations[{DISABLE}]", short(text), fix))
    return _SWITCH.get(text, False)


def exported_to(service: Service, report: ReportProblem) -> tuple[str, ...]:
    """The namespaces that the Service is shown to besides its own; ``*`` is all of them.

    A bad value shows it to nobody else.
    """
    if EXPORT_TO not in (service.metadata.annotations or {}):
        return ()
    text = service.metadata.annotation(EXPORT_TO)
    names = [name.strip() for name in text.split(",")]
    if not all(name == "*" or _NAMESPACE.fullmatch(name) for name in names):
        where = describe("Service", service.metadata)
        fix = "write namespaces with commas between them, or *; it is exported to none"
        report(Problem(where, f"metadata.annotations[{EXPORT_TO}]", short(text), fix))
        return ()
    return tuple(sorted(set(names)))


def out_of_band(service: Service, report: ReportProblem) -> bool:
    """Whether the control plane shall ask the endpoints for their load."""
    if LOAD_REPORTS not in (service.metadata.annotations or {}):
        return False
    text = service.metadata.annotation(LOAD_REPORTS)
    if text not in _LOAD_REPORTS:
        where = describe("Service", service.metadata)
        fix = f"choose one of {', '.join(_LOAD_REPORTS)}; they are not asked"
        report(Problem(where, f"metadata.annotations[{LOAD_REPORTS}]", short(text), fix))
    return _LOAD_REPORTS.get(text, False)


def endpoint_labels(service: Service) -> tuple[str, ...] | None:
    """The labels of its pods that a Service asks for, sorted; None if it asks for nothing.

    With an empty value it asks for weights and start times alone.
    """
    annotations = service.metadata.annotations or {}
    if ENDPOINT_LABELS not in annotations:
        return None
    text = service.metadata.annotation(ENDPOINT_LABELS)
    names = sorted({name.strip() for name in text.split(",") if name.strip()})
    if len(names) > _MOST_LABELS or not all(_LABEL.fullmatch(name) for name in names):
        return None
    return tuple(names)


def _seconds(text: str) -> float | None:
    found = _DURATION.fullmatch(text)
    if found is None:
        return None
    number, unit = found.groups()
    seconds = float(number) * _UNITS_S[unit] if number else 0.0
    return seconds if seconds <= _LONGEST_S else None


def _host_and_port(text: str) -> str | None:
    try:
        snapshot_of("", [text])
    except ConfigError:
        return None
    return text


def _requests(text: str) -> float | None:
    if _COUNT.fullmatch(text) is None or int(text) > _MOST_REQUESTS:
        return None
    return float(text)


_PARAMS: tuple[tuple[str, str, Callable[[str], str | float | None], str], ...] = (
    (
        SLOW_START,
        "slow_start_s",
        _seconds,
        "write a duration of at most an hour, such as 500ms, 30s or 2m; or 0",
    ),
    (
        ZONE,
        "zone",
        lambda text: text if text in _ZONES else None,
        f"choose one of {', '.join(_ZONES)}",
    ),
    (
        HASH_KEY,
        "hash_key",
        lambda text: text if _HEADER.fullmatch(text) else None,
        f"name metadata in lower case, such as x-user, beside {POLICY}: ring_hash",
    ),
    (
        SUBSET_SIZE,
        "subset_size",
        lambda text: float(text) if _SIZE.fullmatch(text) else None,
        "write a whole number from 1 to 99999",
    ),
    (
        OUTLIER_DETECTION,
        "eject",
        _SWITCH.get,
        f"choose one of {', '.join(_SWITCH)}",
    ),
    (
        FALLBACK,
        "fallback",
        _host_and_port,
        "write host:port, such as orders-old.shop.svc.cluster.local:8080",
    ),
    (
        MAX_REQUESTS,
        "max_requests",
        _requests,
        f"write a whole number from 1 to {_MOST_REQUESTS}",
    ),
    (
        HASH_TABLE,
        "hash_table",
        lambda text: text if text in _TABLES else None,
        f"choose one of {', '.join(_TABLES)}, beside {POLICY}: ring_hash",
    ),
)


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
