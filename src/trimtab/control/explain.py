"""Why a client gets the endpoints that it gets: what ``trimtab why`` prints. Pure.

It says what follows from the state of this control plane: health, priority, zone and the policy in
force. What a client sees by itself (latency, failures, load) moves its picks among the used ones.
"""

from __future__ import annotations

from typing import Any

from trimtab import policies
from trimtab.model import Endpoint, Health, PolicyConfig, Snapshot
from trimtab.policies.params import Params
from trimtab.policies.stack import Judges

View = dict[str, Any]

_NO_ZONES = frozenset({"ring_hash", "prequal"})  # keys and probes choose; see policies.stack
_DEFAULT = "default"
_SERVICE = "the Service's annotations"


def explain(snapshot: Snapshot, zone: str) -> View:
    """The policy in force, and each endpoint with whether a client in ``zone`` uses it, and why.

    Args:
        snapshot: the cluster as clients are told it.
        zone: where the client runs; "" is unknown, as for one without ``TRIMTAB_ZONE``.

    Raises:
        ConfigError: the cluster's policy has a parameter out of range.
    """
    config = snapshot.policy or PolicyConfig(policies.DEFAULT)
    mode = _zone_mode(config, dict(config.params))
    usable = snapshot.usable()
    local = [e for e in usable if zone and e.locality.zone == zone]
    used = {e.key for e in (local if mode == "strict" and local else usable)}
    told = {e.key for e in usable}
    return {
        "zone": zone,
        "zone_rule": _zone_rule(config, mode, zone, len(local), len(usable)),
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


def _zone_mode(config: PolicyConfig, params: Params) -> str:
    return "off" if config.name in _NO_ZONES else Judges.read(config.name, params).zone


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
        cause = f"policy {config.name}" if config.name in _NO_ZONES else "zone: off"
        return f"zones make no difference ({cause})"
    if not zone:
        return "the client's zone is unknown: all zones are used alike"
    if not local:
        return f"nothing can be used in zone {zone}: the other zones get its requests"
    if mode == "strict":
        return f"strict: only zone {zone}, as long as it has a usable endpoint"
    return (
        f"zone {zone} is preferred; the others get requests as far as it is slower, and a few to "
        "measure them"
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
