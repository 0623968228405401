"""Listeners, routes and Clusters to values: what a control plane sent, checked.

Any control plane is accepted that native gRPC clients accept. What is wrong is refused with the
field and the bad value: the text goes back in a NACK, and people read it. Rules: gRFC A27, A52.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf import struct_pb2

from trimtab.errors import ProtocolError
from trimtab.model import PolicyConfig, ServicePort
from trimtab.xds import type_urls
from trimtab.xds import wire_pb2 as wire
from trimtab.xds.parsing import own_metadata, parsed, text_of, whole_number
from trimtab.xds.repeating import read_fields
from trimtab.xds.routing import check_routes


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


def decode_listener(body: bytes) -> ListenerFacts:
    """Read a Listener's value.

    Raises:
        ProtocolError: naming the field.
    """
    listener = parsed(wire.Listener, body)
    if not listener.HasField("api_listener"):
        raise ProtocolError("api_listener: missing; a gRPC client can't use a socket listener")
    inner = listener.api_listener.api_listener
    if inner.type_url != type_urls.HTTP_CONNECTION_MANAGER:
        raise ProtocolError(
            f"api_listener.api_listener: {inner.type_url or 'nothing'} is not an "
            "HttpConnectionManager"
        )
    connections = parsed(wire.HttpConnectionManager, inner.value)
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
    routes = parsed(wire.RouteConfiguration, body)
    check_routes(routes)
    return routes


def decode_cluster(body: bytes) -> ClusterFacts:
    """Read a Cluster's value.

    Raises:
        ProtocolError: naming the field.
    """
    cluster = parsed(wire.Cluster, body)
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


def _check_source(source: wire.ConfigSource, where: str) -> None:
    if source.WhichOneof("config_source_specifier") not in {"ads", "self"}:
        raise ProtocolError(f"{where}: neither ads nor self; other sources are not supported")


def _policy(listed: wire.LoadBalancingPolicy) -> PolicyConfig | None:
    """Trimtab's own policy, unread: ``policies.build`` judges its name and parameters."""
    for policy in listed.policies:
        config = policy.typed_extension_config.typed_config
        if config.type_url != type_urls.TYPED_STRUCT:
            continue
        ours = parsed(wire.TypedStruct, config.value)
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
    facts = own_metadata(metadata)
    port = facts.get("port")
    if port is None:
        return None
    return ServicePort(
        service=text_of(facts, "service"),
        namespace=text_of(facts, "namespace"),
        port=whole_number(port, "metadata port"),
        port_name=text_of(facts, "port_name"),
        app_protocol=text_of(facts, "app_protocol"),
        repeatable=read_fields(facts),
    )
