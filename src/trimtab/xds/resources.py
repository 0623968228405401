"""Snapshot to Cluster, Listener and RouteConfiguration. Each result is an encoded ``Any``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf import duration_pb2
from google.protobuf.message import Message

from trimtab.model import PolicyConfig, Repeatable, ServicePort, Snapshot
from trimtab.xds import type_urls
from trimtab.xds import wire_pb2 as wire
from trimtab.xds.cluster_policy import Json, hash_policies, packed, set_policy, struct
from trimtab.xds.repeating import FIELD as REPEATABLE
from trimtab.xds.repeating import default_policy, fields_of, routes_of

_CONNECT_TIMEOUT_S = 2  # an in-cluster connect takes < 1 ms; one lost SYN is sent again after 1 s
_HTTP2_PROTOCOLS = frozenset({"grpc", "kubernetes.io/h2c"})
_OPTIONS_NAME = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource as it is sent; all streams share ``body``.

    Attributes:
        type_url: its type.
        name: exactly as it was asked for.
        version: a hash of the content, the same in every replica.
        body: the encoded ``google.protobuf.Any``.
        view: which of a name's views it is, where there are several.
    """

    type_url: str
    name: str
    version: str
    body: bytes
    view: str = ""


@dataclass(frozen=True, slots=True)
class EdsSource:
    """Where an Envoy without an aggregated stream asks for endpoints.

    Attributes:
        cluster: the cluster of its bootstrap that leads to the control plane.
        delta: whether it asks in the incremental variant.
    """

    cluster: str
    delta: bool


def resource(
    type_url: str, name: str, message: Message, *, salt: str = "", view: str = ""
) -> Resource:
    """Encode a message once. ``salt`` goes into the version, not into the body."""
    body = packed(type_url, message).SerializeToString()
    return Resource(type_url, name, content_version(body, salt), body, view)


def content_version(body: bytes, salt: str = "") -> str:
    """A short hash of a body: 16 hexadecimal digits."""
    return hashlib.blake2b(body, digest_size=8, key=salt.encode()).hexdigest()


def metadata(values: Mapping[str, Json]) -> wire.Metadata:
    """Metadata that only trimtab clients read."""
    return wire.Metadata(filter_metadata={type_urls.METADATA: struct(values)})


def cluster_resource(
    name: str,
    snapshot: Snapshot,
    eds_source: EdsSource | None = None,
    *,
    localities_first: bool = False,
    load_reports: bool = False,
) -> Resource:
    """The Cluster of a snapshot, under the name that was asked for.

    Args:
        name: as it was asked for.
        snapshot: what is known of the cluster.
        eds_source: where its endpoints are to be asked for; None: on the aggregated stream.
        localities_first: for native gRPC that is sent a split over zones: of what it knows only
            WrrLocality goes by it.
        load_reports: native gRPC shall report its load to the server that it has this from.
    """
    endpoints = _ads() if eds_source is None else _own_stream(eds_source)
    cluster = wire.Cluster(
        name=name,
        type=wire.Cluster.EDS,
        eds_cluster_config=wire.Cluster.EdsClusterConfig(eds_config=endpoints),
        connect_timeout=duration_pb2.Duration(seconds=_CONNECT_TIMEOUT_S),
        # 0: Envoy must not fall back to endpoints that are known to be away.
        common_lb_config=wire.Cluster.CommonLbConfig(healthy_panic_threshold=wire.Percent()),
    )
    set_policy(cluster, snapshot.policy, localities_first=localities_first)
    if load_reports:
        cluster.lrs_server.self.SetInParent()
    service = snapshot.service
    if service is not None:
        cluster.metadata.CopyFrom(metadata(_service_fields(service)))
        if speaks_http2(service):
            options = wire.HttpProtocolOptions(
                explicit_http_config=wire.HttpProtocolOptions.ExplicitHttpConfig(
                    http2_protocol_options=wire.Http2ProtocolOptions()
                )
            )
            cluster.typed_extension_protocol_options[_OPTIONS_NAME].CopyFrom(
                packed(type_urls.HTTP_PROTOCOL_OPTIONS, options)
            )
    return resource(type_urls.CDS, name, cluster, view="localities" if localities_first else "")


def speaks_http2(service: ServicePort) -> bool:
    """Whether a port's ``appProtocol``, or else its name, says gRPC or HTTP/2 without TLS."""
    if service.app_protocol:
        return service.app_protocol in _HTTP2_PROTOCOLS
    return service.port_name == "grpc" or service.port_name.startswith("grpc-")


def listener_resource(
    name: str,
    cluster: str,
    policy: PolicyConfig | None = None,
    repeatable: Repeatable | None = None,
) -> Resource:
    """The Listener that a gRPC client asks for: its routes are inline, for any authority.

    Inline, since a route that arrives apart from its Listener can be torn from it (gRFC A71).
    """
    return _listener(name, _routes(name, "*", cluster, policy, repeatable))


def missing_listener_resource(name: str, *, routeless: bool = False) -> Resource:
    """A Listener that makes a native gRPC client fail at once: no virtual host matches.

    Without one it waits 15 s before it says that there is no such service.

    Args:
        name: as it was asked for.
        routeless: a virtual host matches, but has no route. gRPC for Node (grpc-js-xds 1.14)
            fails at once on this, and waits for ever where no virtual host matches.
    """
    if routeless:
        nowhere = wire.VirtualHost(name=name, domains=["*"])
        return _listener(name, wire.RouteConfiguration(name=name, virtual_hosts=[nowhere]))
    return _listener(name, _routes(name, "no-such-service.invalid", "no-such-service"))


def missing_assignment_resource(name: str) -> Resource:
    """A ClusterLoadAssignment without endpoints, for a name that never existed.

    Without one Envoy holds back its whole start, or the cluster, for 15 s (state of the world).
    """
    return resource(type_urls.EDS, name, wire.ClusterLoadAssignment(cluster_name=name))


def missing_route_resource(name: str) -> Resource:
    """A RouteConfiguration without virtual hosts, for a name that never existed.

    Without one Envoy holds back its whole start, or the listener, for 15 s.
    """
    return resource(type_urls.RDS, name, wire.RouteConfiguration(name=name))


def route_resource(
    name: str,
    cluster: str,
    policy: PolicyConfig | None = None,
    repeatable: Repeatable | None = None,
) -> Resource:
    """The RouteConfiguration of a cluster, under the name that was asked for."""
    return resource(type_urls.RDS, name, _routes(name, "*", cluster, policy, repeatable))


def _listener(name: str, routes: wire.RouteConfiguration) -> Resource:
    connections = wire.HttpConnectionManager(
        stat_prefix=name,
        route_config=routes,
        # gRFC A39: not empty, and the last filter is terminal.
        http_filters=[
            wire.HttpFilter(
                name="envoy.filters.http.router",
                typed_config=packed(type_urls.ROUTER, wire.Router()),
            )
        ],
    )
    listener = wire.Listener(
        name=name,
        api_listener=wire.ApiListener(
            api_listener=packed(type_urls.HTTP_CONNECTION_MANAGER, connections)
        ),
    )
    return resource(type_urls.LDS, name, listener)


def _routes(
    name: str,
    domain: str,
    cluster: str,
    policy: PolicyConfig | None = None,
    repeatable: Repeatable | None = None,
) -> wire.RouteConfiguration:
    def route(match: wire.RouteMatch, again: wire.RetryPolicy | None) -> wire.Route:
        action = wire.RouteAction(
            cluster=cluster, hash_policy=hash_policies(policy), retry_policy=again
        )
        return wire.Route(match=match, route=action)

    routes = [route(match, again) for match, again in routes_of(repeatable)]
    routes.append(route(wire.RouteMatch(prefix=""), default_policy(repeatable)))
    host = wire.VirtualHost(name=name, domains=[domain], routes=routes)
    return wire.RouteConfiguration(name=name, virtual_hosts=[host])


def _ads() -> wire.ConfigSource:
    return wire.ConfigSource(
        ads=wire.AggregatedConfigSource(), resource_api_version=wire.ConfigSource.V3
    )


def _own_stream(source: EdsSource) -> wire.ConfigSource:
    # Not `self`: Envoy 1.40 rejects it as "Missing config source specifier".
    way = wire.GrpcService.EnvoyGrpc(cluster_name=source.cluster)
    api = wire.ApiConfigSource
    return wire.ConfigSource(
        api_config_source=api(
            api_type=api.DELTA_GRPC if source.delta else api.GRPC,
            transport_api_version=wire.ConfigSource.V3,
            grpc_services=[wire.GrpcService(envoy_grpc=way)],
        ),
        resource_api_version=wire.ConfigSource.V3,
    )


def _service_fields(service: ServicePort) -> dict[str, Json]:
    fields: dict[str, Json] = {
        "service": service.service,
        "namespace": service.namespace,
        "port": float(service.port),
    }
    if service.port_name:
        fields["port_name"] = service.port_name
    if service.app_protocol:
        fields["app_protocol"] = service.app_protocol
    if service.repeatable:
        fields[REPEATABLE] = fields_of(service.repeatable)
    return fields
