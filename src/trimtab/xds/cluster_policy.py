"""One service configuration for every kind of client: policies, outlier detection, breakers.

Of the list ``load_balancing_policy`` each client takes the first entry that it knows (gRFC A52):

    for                         entry
    trimtab                     TypedStruct with the policy and its parameters
    Envoy; gRPC, where it can   the nearest that they have, with slow start (Envoy's)
    native gRPC of any kind     WrrLocality of RoundRobin: within localities by weight

A list in which a client knows nothing is rejected, so each, nested ones too, ends with RoundRobin.
``lb_policy`` stays unset: native gRPC for Python rejects a Cluster whose ``lb_policy`` is
LEAST_REQUEST. Envoy goes by locality weights unless ``zone`` is ``off``.

Parameters were checked where they came from; one that is out of range all the same (a policy made
elsewhere) counts as absent here, and trimtab clients, which read it, say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

from google.protobuf import any_pb2, duration_pb2, struct_pb2
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import FloatValue, UInt32Value

from trimtab.errors import ConfigError
from trimtab.model import PolicyConfig
from trimtab.policies.params import Params, Reader
from trimtab.policies.stack import Judges
from trimtab.xds import type_urls
from trimtab.xds import wire_pb2 as wire

JsonScalar = str | float | bool
Json = JsonScalar | Mapping[str, "Json"]

CLUSTER_PARAMS = frozenset({"max_requests", "hash_table"})
"""Parameters for Envoy and native gRPC alone: they are fields of the Cluster or its list."""

_UNLIMITED = 2**32 - 1
_RETRIES_PERCENT = 20.0  # of the requests in flight: Finagle's and Envoy's budget
_RETRIES_ALWAYS = 3
_LONGEST_EJECTION_S = 300
_FAILED_PERCENT = 50
_FAILED_VOLUME = 20


def packed(type_url: str, message: Message) -> any_pb2.Any:
    """Wrap a message of ours under the type URL that peers know it by."""
    return any_pb2.Any(type_url=type_url, value=message.SerializeToString(deterministic=True))


def struct(values: Mapping[str, Json]) -> struct_pb2.Struct:
    """A protobuf Struct from nested scalars."""
    result = struct_pb2.Struct()
    result.update(values)
    return result


def set_policy(
    cluster: wire.Cluster, policy: PolicyConfig | None, *, localities_first: bool = False
) -> None:
    """Put into a Cluster what a service's policy and parameters mean to each kind of client.

    ``localities_first`` leaves out what would keep native gRPC from going by locality weights: its
    RoundRobin and LeastRequest don't, unless they are WrrLocality's.
    """
    params = dict(policy.params) if policy else {}
    name = policy.name if policy else ""
    judges = _judges(name, params)
    cluster.load_balancing_policy.CopyFrom(_policies(policy, judges, params, nest=localities_first))
    cluster.circuit_breakers.thresholds.append(_thresholds(_limit(params)))
    if judges.eject_s:
        cluster.outlier_detection.CopyFrom(_outlier_detection(judges.eject_s))


def hash_policies(policy: PolicyConfig | None) -> list[wire.RouteAction.HashPolicy]:
    """What a route says of the key by which a hashing policy goes; without a key: nothing."""
    key = dict(policy.params).get("hash_key", "") if policy else ""
    if policy is None or policy.name != "ring_hash" or not isinstance(key, str) or not key:
        return []
    header = wire.RouteAction.HashPolicy.Header(header_name=key)
    return [wire.RouteAction.HashPolicy(header=header)]


def _judges(name: str, params: Params) -> Judges:
    try:
        return Judges.read(name, params)
    except ConfigError:
        return Judges()


def _limit(params: Params) -> int:
    try:
        return Reader("", params).whole("max_requests", _UNLIMITED, 1, _UNLIMITED)
    except ConfigError:
        return _UNLIMITED


def _policies(
    policy: PolicyConfig | None, judges: Judges, params: Params, *, nest: bool
) -> wire.LoadBalancingPolicy:
    ramp = None
    if judges.slow_start_s:
        ramp = wire.SlowStartConfig(slow_start_window=_duration(judges.slow_start_s))
    by_weight = wire.LocalityLbConfig.LocalityWeightedLbConfig()
    zones = None
    if judges.zone != "off":
        zones = wire.LocalityLbConfig(locality_weighted_lb_config=by_weight)
    entries = [_ours(policy)] if policy else []
    nested: list[any_pb2.Any] = []
    whole = nested if nest else entries
    match policy.name if policy else "":
        case "round_robin" if not nest:
            chosen = wire.RoundRobin(slow_start_config=ramp, locality_lb_config=zones)
            entries.append(packed(type_urls.ROUND_ROBIN, chosen))
        case "round_robin":
            pass  # it stands last in any case
        case "random":
            entries.append(packed(type_urls.RANDOM, wire.Random(locality_lb_config=zones)))
        case "ring_hash":
            in_zones = by_weight if zones else None
            if params.get("hash_table") == "maglev":
                maglev = wire.Maglev(locality_weighted_lb_config=in_zones)
                entries.append(packed(type_urls.MAGLEV, maglev))
            entries.append(packed(type_urls.RING_HASH, _ring(in_zones)))
        case "weighted_round_robin":
            # In WrrLocality for Envoy as well: it takes the localities' weights from there.
            nested.append(packed(type_urls.CLIENT_SIDE_WRR, _by_reports(params)))
        case _:
            least = wire.LeastRequest(slow_start_config=ramp, locality_lb_config=zones)
            whole.append(packed(type_urls.LEAST_REQUEST, least))
    nested.append(packed(type_urls.ROUND_ROBIN, wire.RoundRobin()))
    by_locality = wire.WrrLocality(endpoint_picking_policy=_listed(*nested))
    return _listed(*entries, packed(type_urls.WRR_LOCALITY, by_locality))


def _ours(policy: PolicyConfig) -> any_pb2.Any:
    values: dict[str, Json] = {"policy": policy.name}
    params = {k: v for k, v in policy.params if k not in CLUSTER_PARAMS}
    if params:
        values["params"] = params
    return packed(
        type_urls.TYPED_STRUCT, wire.TypedStruct(type_url=type_urls.POLICY, value=struct(values))
    )


def _ring(zones: wire.LocalityLbConfig.LocalityWeightedLbConfig | None) -> wire.RingHash:
    """The ring's sizes stay unset (1,024 points at the least): gRPC for Node rejects any."""
    # The function is said, since gRPC for Node takes no default there.
    return wire.RingHash(hash_function=wire.RingHash.XX_HASH, locality_weighted_lb_config=zones)


def _by_reports(params: Params) -> wire.ClientSideWeightedRoundRobin:
    def number(name: str, default: float, low: float, high: float) -> float:
        try:
            return Reader("", params).number(name, default, low, high)
        except ConfigError:
            return default

    return wire.ClientSideWeightedRoundRobin(
        blackout_period=_duration(number("blackout_s", 10.0, 0.0, 3600.0)),
        weight_expiration_period=_duration(number("expiry_s", 180.0, 1.0, 86400.0)),
        # gRFC A58: not below 100 ms.
        weight_update_period=_duration(max(0.1, number("update_s", 1.0, 0.01, 3600.0))),
        error_utilization_penalty=FloatValue(value=number("error_penalty", 1.0, 0.0, 1000.0)),
    )


def _listed(*configs: any_pb2.Any) -> wire.LoadBalancingPolicy:
    return wire.LoadBalancingPolicy(
        policies=[
            wire.LoadBalancingPolicy.Policy(
                typed_extension_config=wire.TypedExtensionConfig(
                    # Envoy wants a name, which it only shows; the type URL decides.
                    name=config.type_url.rpartition(".")[2],
                    typed_config=config,
                )
            )
            for config in configs
        ]
    )


def _thresholds(max_requests: int) -> wire.CircuitBreakers.Thresholds:
    """Without these both Envoy and native gRPC let 1,024 requests through (gRFC A32)."""
    thresholds = wire.CircuitBreakers.Thresholds
    return thresholds(
        max_connections=UInt32Value(value=_UNLIMITED),
        max_pending_requests=UInt32Value(value=_UNLIMITED),
        max_requests=UInt32Value(value=max_requests),
        retry_budget=thresholds.RetryBudget(
            budget_percent=wire.Percent(value=_RETRIES_PERCENT),
            min_retry_concurrency=UInt32Value(value=_RETRIES_ALWAYS),
        ),
    )


def _outlier_detection(base_s: float) -> wire.OutlierDetection:
    """The rules of ``policies.ejection``, as far as Envoy and gRPC (gRFC A50) have them.

    Every field is said: gRPC for Node takes an absent one for undefined and ends in a TypeError,
    native gRPC for Python an absent ``enforcing_success_rate`` for 0.
    """

    def whole(value: int) -> UInt32Value:
        return UInt32Value(value=value)

    return wire.OutlierDetection(
        consecutive_5xx=whole(5),
        interval=_duration(5.0),
        base_ejection_time=_duration(base_s),
        max_ejection_time=_duration(max(_LONGEST_EJECTION_S, ceil(base_s))),
        # Envoy takes one of two with 50, one of ten with 10, and never the only one.
        max_ejection_percent=whole(50),
        enforcing_consecutive_5xx=whole(100),
        consecutive_gateway_failure=whole(5),
        enforcing_consecutive_gateway_failure=whole(100),
        enforcing_success_rate=whole(0),
        success_rate_minimum_hosts=whole(5),
        success_rate_request_volume=whole(100),
        success_rate_stdev_factor=whole(1900),
        failure_percentage_threshold=whole(_FAILED_PERCENT),
        enforcing_failure_percentage=whole(100),
        # gRPC would eject the only one.
        failure_percentage_minimum_hosts=whole(2),
        failure_percentage_request_volume=whole(_FAILED_VOLUME),
    )


def _duration(seconds: float) -> duration_pb2.Duration:
    nanos = round(seconds * 1e9)
    return duration_pb2.Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)
