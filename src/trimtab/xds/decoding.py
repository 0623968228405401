"""Resources to values: what a control plane sent, checked.

Any control plane is accepted that native gRPC clients accept. What is wrong is refused with the
field and the bad value: the text goes back in a NACK, and people read it. Rules: gRFC A27, A52.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from google.protobuf import struct_pb2
from google.protobuf.message import DecodeError, Message

from trimtab.errors import ConfigError, ProtocolError
from trimtab.model import (
    MAX_WEIGHT,
    Endpoint,
    Health,
    Locality,
    PolicyConfig,
    ServicePort,
)
from trimtab.xds import type_urls
from trimtab.xds import wire_pb2 as wire
from trimtab.xds.routing import check_routes

_HEALTH = {
    wire.LbEndpoint.UNKNOWN: Health.READY,
    wire.LbEndpoint.HEALTHY: Health.READY,
    wire.LbEndpoint.DRAINING: Health.DRAINING,
    # Envoy uses degraded endpoints where no healthy one is left, as we use draining ones.
    wire.LbEndpoint.DEGRADED: Health.DRAINING,
}
_MAX_PORT = 65535
_SCALE = 1000  # of weights that localities impose: the smallest endpoint gets this one


@dataclass(frozen=True, slots=True)
class ListenerFacts:
    """What a client needs of a Listener: its routes, or the name under which to ask for them."""

    name: str
    routes: wire.RouteConfiguration | None
    route_name: str = ""


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What a client needs of a Cluster.

    Attributes:
        name: its own.
        endpoints_name: the name of its ClusterLoadAssignment.
        policy: trimtab's own, if the list of policies has it.
        service: the Service port, if trimtab's control plane made it.
    """

    name: str
    endpoints_name: str
    policy: PolicyConfig | None
    service: ServicePort | None


@dataclass(frozen=True, slots=True)
class Assignment:
    """The endpoints of a ClusterLoadAssignment."""

    name: str
    endpoints: tuple[Endpoint, ...]


def decode_listener(body: bytes) -> ListenerFacts:
    """Read a Listener's value.

    Raises:
        ProtocolError: naming the field.
    """
    listener = _parse(wire.Listener, body)
    if not listener.HasField("api_listener"):
        raise ProtocolError("api_listener: missing; a gRPC client can't use a socket listener")
    inner = listener.api_listener.api_listener
    if inner.type_url != type_urls.HTTP_CONNECTION_MANAGER:
        raise ProtocolError(
            f"api_listener.api_listener: {inner.type_url or 'nothing'} is not an "
            "HttpConnectionManager"
        )
    connections = _parse(wire.HttpConnectionManager, inner.value)
    kind = connections.WhichOneof("route_specifier")
    if kind == "route_config":
        check_routes(connections.route_config)
        return ListenerFacts(listener.name, connections.route_config)
    if kind == "rds":
        _check_source(connections.rds.config_source, "rds.config_source")
        if not connections.rds.route_config_name:
            raise ProtocolError("rds.route_config_name: empty")
        return ListenerFacts(listener.name, None, connections.rds.route_config_name)
    raise ProtocolError("route_specifier: neither route_config nor rds is set")


def decode_routes(body: bytes) -> wire.RouteConfiguration:
    """Read a RouteConfiguration's value.

    Raises:
        ProtocolError: naming the field.
    """
    routes = _parse(wire.RouteConfiguration, body)
    check_routes(routes)
    return routes


def decode_cluster(body: bytes) -> ClusterFacts:
    """Read a Cluster's value.

    Raises:
        ProtocolError: naming the field.
    """
    cluster = _parse(wire.Cluster, body)
    if cluster.WhichOneof("cluster_discovery_type") == "cluster_type":
        raise ProtocolError(
            f"cluster_type: {cluster.cluster_type.name!r} is not supported: only EDS"
        )
    if cluster.type != wire.Cluster.EDS:
        try:
            given = wire.Cluster.DiscoveryType.Name(cluster.type)
        except ValueError:
            given = str(cluster.type)
        raise ProtocolError(f"type: {given} is not supported: only EDS")
    _check_source(cluster.eds_cluster_config.eds_config, "eds_cluster_config.eds_config")
    return ClusterFacts(
        name=cluster.name,
        endpoints_name=cluster.eds_cluster_config.service_name or cluster.name,
        policy=_policy(cluster.load_balancing_policy),
        service=_service(cluster.metadata),
    )


class AssignmentDecoder:
    """Reads one cluster's ClusterLoadAssignments; endpoints that did not change are not read again.

    They stay the same objects, too, so that comparing snapshots is cheap.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, str, str, str, int], Endpoint] = {}

    def decode(self, body: bytes) -> Assignment:
        """Read a ClusterLoadAssignment's value.

        Raises:
            ProtocolError: naming the field.
        """
        message = _parse(wire.ClusterLoadAssignment, body)
        _check_priorities(message)
        known: dict[tuple[bytes, str, str, str, int], Endpoint] = {}
        groups: list[tuple[int, list[Endpoint]]] = []
        places: dict[tuple[str, int], str] = {}
        for index, locality in enumerate(message.endpoints):
            where = f"endpoints[{index}]"
            group = self._locality(locality, where, known)
            for number, endpoint in enumerate(group):
                place = f"{where}.lb_endpoints[{number}]"
                first = places.setdefault(endpoint.key, place)
                if first is not place:
                    raise ProtocolError(
                        f"{place}: {endpoint.target} is a duplicate of {first}; addresses are "
                        "unique in a cluster"
                    )
            groups.append((_locality_weight(locality, where), group))
        self._known = known
        return Assignment(message.cluster_name, _weighted(groups))

    def _locality(
        self,
        message: wire.LocalityLbEndpoints,
        where: str,
        known: dict[tuple[bytes, str, str, str, int], Endpoint],
    ) -> list[Endpoint]:
        locality = message.locality
        shared = Locality(locality.region, locality.zone, locality.sub_zone)
        priority = _true_priority(message)
        group: list[Endpoint] = []
        for number, raw in enumerate(message.lb_endpoints):
            key = (raw, shared.region, shared.zone, shared.sub_zone, priority)
            endpoint = self._known.get(key)
            if endpoint is None:
                place = f"{where}.lb_endpoints[{number}]"
                endpoint = _endpoint(raw, shared, priority, place)
            known[key] = endpoint
            group.append(endpoint)
        return group


M = TypeVar("M", bound=Message)


def _parse(kind: type[M], body: bytes) -> M:
    try:
        return kind.FromString(body)
    except DecodeError as error:
        raise ProtocolError(f"not a {kind.DESCRIPTOR.name}: {error}") from error


def _check_source(source: wire.ConfigSource, where: str) -> None:
    if source.WhichOneof("config_source_specifier") is None:
        raise ProtocolError(f"{where}: neither ads nor self; other sources are not supported")


def _check_priorities(message: wire.ClusterLoadAssignment) -> None:
    """Priorities start at 0 without gaps, and a locality stands once in each (gRFC A27)."""
    seen: set[tuple[int, str, str, str]] = set()
    for index, group in enumerate(message.endpoints):
        locality = group.locality
        key = (group.priority, locality.region, locality.zone, locality.sub_zone)
        if key in seen:
            raise ProtocolError(
                f"endpoints[{index}].locality: {locality.region}/{locality.zone}/"
                f"{locality.sub_zone} stands twice in priority {group.priority}"
            )
        seen.add(key)
    present = {key[0] for key in seen}
    for expected in range(len(present)):
        if expected not in present:
            raise ProtocolError(
                f"endpoints: priority {max(present)} is used but not {expected}; priorities must "
                "have no gaps"
            )


def _true_priority(message: wire.LocalityLbEndpoints) -> int:
    ours = message.metadata.filter_metadata
    if type_urls.METADATA in ours:
        value = ours[type_urls.METADATA].fields.get("priority")
        if value is not None:
            return max(_whole(value, "locality metadata priority"), message.priority)
    return message.priority


def _locality_weight(message: wire.LocalityLbEndpoints, where: str) -> int:
    """The locality's weight, 0 if it is not set."""
    if not message.HasField("load_balancing_weight"):
        return 0
    if message.load_balancing_weight.value == 0:
        raise ProtocolError(f"{where}.load_balancing_weight: 0; leave it unset or give at least 1")
    return message.load_balancing_weight.value


def _weighted(groups: list[tuple[int, list[Endpoint]]]) -> tuple[Endpoint, ...]:
    """All endpoints; their weights carry their localities' shares.

    A locality's weight is its share of the traffic, divided among its endpoints by theirs (Envoy,
    "locality weighted load balancing"). It usually is their sum, and then nothing is to be done.
    """
    by_priority: dict[int, list[tuple[int, list[Endpoint]]]] = {}
    for weight, group in groups:
        if group:
            by_priority.setdefault(group[0].priority, []).append((weight, group))
    result: list[Endpoint] = []
    for members in by_priority.values():
        sums = [(weight, sum(e.weight for e in group), group) for weight, group in members]
        plain = all(weight in (0, min(total, MAX_WEIGHT)) for weight, total, _ in sums)
        if plain or not all(weight for weight, _, _ in sums):
            result.extend(e for _, group in members for e in group)
            continue
        least = min(weight * e.weight / total for weight, total, group in sums for e in group)
        for weight, total, group in sums:
            for e in group:
                share = round(_SCALE * weight * e.weight / total / least)
                result.append(replace(e, weight=min(share, MAX_WEIGHT)))
    return tuple(result)


def _endpoint(raw: bytes, locality: Locality, priority: int, where: str) -> Endpoint:
    message = _parse(wire.LbEndpoint, raw)
    address, port = _address(message.endpoint.address, f"{where}.endpoint.address")
    more = [
        _address(a.address, f"{where}.endpoint.additional_addresses[{index}].address")[0]
        for index, a in enumerate(message.endpoint.additional_addresses)
    ]
    weight = 1
    if message.HasField("load_balancing_weight"):
        weight = message.load_balancing_weight.value
        if weight == 0:
            raise ProtocolError(
                f"{where}.load_balancing_weight: 0 of {address}:{port}; leave the endpoint out, or "
                "give at least 1"
            )
    facts = _fields(message.metadata)
    ready_since = facts.get("ready_since")
    labels = facts.get("labels")
    try:
        return Endpoint(
            address=address,
            port=port,
            locality=locality,
            node=_text(facts, "node"),
            health=_HEALTH.get(message.health_status, Health.UNHEALTHY),
            weight=weight,
            priority=priority,
            ready_since=None if ready_since is None else ready_since.number_value,
            labels=()
            if labels is None
            else tuple(sorted((k, v.string_value) for k, v in labels.struct_value.fields.items())),
            additional_addresses=tuple(more),
            uid=_text(facts, "uid"),
        )
    except ConfigError as error:
        raise ProtocolError(f"{where}: {error}") from error


def _address(message: wire.Address, where: str) -> tuple[str, int]:
    if not message.HasField("socket_address"):
        raise ProtocolError(f"{where}: not a socket_address; pipes and names are not supported")
    socket = message.socket_address
    if socket.protocol != wire.SocketAddress.TCP:
        raise ProtocolError(f"{where}.socket_address.protocol: {socket.protocol} is not TCP")
    try:
        ipaddress.ip_address(socket.address)
    except ValueError:
        raise ProtocolError(
            f"{where}.socket_address.address: {socket.address!r} is not an IP address"
        ) from None
    if not 1 <= socket.port_value <= _MAX_PORT:
        raise ProtocolError(
            f"{where}.socket_address.port_value: {socket.port_value} is not in 1-{_MAX_PORT}"
        )
    return socket.address, socket.port_value


def _policy(listed: wire.LoadBalancingPolicy) -> PolicyConfig | None:
    """Trimtab's own policy, unread: ``policies.build`` judges its name and parameters."""
    for policy in listed.policies:
        config = policy.typed_extension_config.typed_config
        if config.type_url != type_urls.TYPED_STRUCT:
            continue
        ours = _parse(wire.TypedStruct, config.value)
        if ours.type_url == type_urls.POLICY:
            return _policy_of(ours.value)
    return None


def _policy_of(value: struct_pb2.Struct) -> PolicyConfig:
    name = value.fields["policy"].string_value if "policy" in value.fields else ""
    if not name:
        raise ProtocolError("load_balancing_policy: trimtab.v1.Policy has no text field 'policy'")
    params: list[tuple[str, str | float | bool]] = []
    if "params" in value.fields:
        for key, param in value.fields["params"].struct_value.fields.items():
            match param.WhichOneof("kind"):
                case "string_value":
                    params.append((key, param.string_value))
                case "number_value":
                    params.append((key, param.number_value))
                case "bool_value":
                    params.append((key, param.bool_value))
                case kind:
                    raise ProtocolError(
                        f"load_balancing_policy: trimtab.v1.Policy params.{key}: {kind} is not a "
                        "text, a number or a truth value"
                    )
    return PolicyConfig(name, tuple(sorted(params)))


def _service(metadata: wire.Metadata) -> ServicePort | None:
    facts = _fields(metadata)
    port = facts.get("port")
    if port is None:
        return None
    return ServicePort(
        service=_text(facts, "service"),
        namespace=_text(facts, "namespace"),
        port=_whole(port, "metadata port"),
        port_name=_text(facts, "port_name"),
        app_protocol=_text(facts, "app_protocol"),
    )


def _fields(metadata: wire.Metadata) -> Mapping[str, struct_pb2.Value]:
    ours = metadata.filter_metadata
    # A protobuf map makes what is looked up, so ask first.
    return ours[type_urls.METADATA].fields if type_urls.METADATA in ours else {}


def _whole(value: struct_pb2.Value, where: str) -> int:
    if not value.number_value.is_integer() or not 0 <= value.number_value <= MAX_WEIGHT:
        raise ProtocolError(f"{where}: {value.number_value} is not a whole number of 32 bits")
    return int(value.number_value)


def _text(fields: Mapping[str, struct_pb2.Value], key: str) -> str:
    value = fields.get(key)
    return "" if value is None else value.string_value
