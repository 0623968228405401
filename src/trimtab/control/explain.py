"""Why a client gets the endpoints that it gets: what ``trimtab why`` prints. Pure.

It says what follows from the state of this control plane: health, priority, zone and the policy in
force. What a client sees by itself (latency, failures, load) moves its picks among the used ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from trimtab import policies
from trimtab.model import Endpoint, Health, PolicyConfig, Snapshot
from trimtab.policies.stack import WITHOUT_ZONES, zone_mode
from trimtab.policies.zone_split import capacity_split
from trimtab.xds.zone_views import RESERVE, ServiceName, Vantage, capacity_of, outlook

View = dict[str, Any]

_DEFAULT = "default"
_SERVICE = "the Service"


def explain(
    snapshot: Snapshot,
    zone: str,
    service: ServiceName | None = None,
    pods: Mapping[str, int] = MappingProxyType({}),
) -> View:
    """The policy in force, and each endpoint with whether a client in ``zone`` uses it, and why.

    Args:
        snapshot: the cluster as clients are told it.
        zone: where the client runs; "" is unknown, as for one without ``TRIMTAB_ZONE``.
        service: what it is part of; None: unknown.
        pods: that Service's, ready, by zone.

    Raises:
        ConfigError: the cluster's policy has a parameter out of range.
    """
    config = snapshot.policy or PolicyConfig(policies.DEFAULT)
    mode = zone_mode(config)
    usable = snapshot.usable()
    local = [e for e in usable if zone and e.locality.zone == zone]
    used = {e.key for e in (local if mode == "strict" and local else usable)}
    told = {e.key for e in usable}
    return {
        "zone": zone,
        "zone_rule": _zone_rule(config, mode, zone, len(local), len(usable)),
        "split": _split(snapshot, mode, zone, service, pods),
        "policy": _settings(snapshot),
        "used": len(used),
        "subset_size": _subset_size(config, len(used)),
        "endpoints": [
            {
                "address": e.target,
                "zone": e.locality.zone,
                "health": e.health.value,
                "used": e.key in used,
                "reason": _reason(e, usable, zone=zone, told=e.key in told, used=e.key in used),
            }
            for e in snapshot.endpoints
        ],
    }


def _split(
    snapshot: Snapshot, mode: str, zone: str, service: ServiceName | None, pods: Mapping[str, int]
) -> View:
    """Parts of the requests by server zone: where trimtab's clients begin, and what others do."""
    capacity = capacity_of(snapshot)
    begin = given = capacity_split(capacity)
    if mode == "off":
        reason = "by capacity: zones are off"
    elif mode == "strict" and zone in capacity:
        begin = given = {zone: 1.0}
        reason = "as the policy is strict"
    elif not zone:
        reason = "by capacity: the client's zone is unknown"
    elif mode == "strict":
        reason = "by capacity: nothing can be used in its zone"
    elif service is None:
        reason = "by capacity: the client's Service is unknown"
    elif zone not in pods:
        reason = f"by capacity: {service} has no ready pod in zone {zone}"
    else:
        counts = ", ".join(f"{n} in {at or '(unknown)'}" for at, n in sorted(pods.items()))
        reason = f"by capacity and the pods of {service} ({counts})"
        vantage = Vantage(zone, service)
        begin, given = (
            outlook(vantage, mode, pods, capacity, reserve=part).shares or {}
            for part in (0.0, RESERVE)
        )
    return {
        "service": str(service) if service else "",
        "pods": dict(pods),
        "reason": reason,
        "trimtab": dict(sorted(begin.items())),
        "others": dict(sorted(given.items())),
    }


def _subset_size(config: PolicyConfig, used: int) -> int | None:
    """How many of the used ones a single client keeps to; None: all of them."""
    size = dict(config.params).get("subset_size")
    return int(size) if isinstance(size, float) and 0 < size < used else None


def _settings(snapshot: Snapshot) -> list[View]:
    """The policy's name and parameters, each with where it came from."""
    config = snapshot.policy
    if config is None:
        return [{"setting": "policy", "value": policies.DEFAULT, "from": _DEFAULT}]
    came_from = _DEFAULT if config.name == policies.DEFAULT else _SERVICE
    return [
        {"setting": "policy", "value": config.name, "from": came_from},
        *({"setting": k, "value": v, "from": _SERVICE} for k, v in config.params),
    ]


def _zone_rule(config: PolicyConfig, mode: str, zone: str, local: int, usable: int) -> str:
    if not usable:
        return "no endpoint can be used: requests wait, or fail as unavailable"
    if mode == "off":
        cause = f"policy {config.name}" if config.name in WITHOUT_ZONES else "zone: off"
        return f"zones make no difference ({cause})"
    if not zone:
        return "the client's zone is unknown: all zones are used alike"
    if not local:
        return f"nothing can be used in zone {zone}: the other zones get its requests"
    if mode == "strict":
        return f"strict: only zone {zone}, as long as it has a usable endpoint"
    return (
        f"zone {zone} is preferred, and gets more than the split says as long as it isn't slower; "
        "the others get a few in any case, to measure them"
    )


def _reason(
    endpoint: Endpoint, usable: tuple[Endpoint, ...], *, zone: str, told: bool, used: bool
) -> str:
    if endpoint.health is Health.UNHEALTHY:
        return "not ready: its EndpointSlice says neither ready nor serving"
    if not told and endpoint.health is Health.DRAINING:
        return "draining: it finishes what it has and gets nothing new"
    if not told:
        first = usable[0].priority
        return f"priority {endpoint.priority}: waits until priority {first} has none to use"
    if not used:
        return f"in zone {endpoint.locality.zone or '(unknown)'}: the policy is strict about {zone}"
    if endpoint.health is Health.DRAINING:
        return "draining, but no endpoint is ready: better than none"
    if zone and endpoint.locality.zone == zone:
        return "ready, in the client's zone"
    return "ready"
