"""An ``Edge`` as Envoy's bootstrap.

Per Service that a route names:

    cluster                 from                                used by
    SERVICE                 trimtab, over ADS; with endpoints   the route, or the aggregate
                            only: static, its endpoints by EDS
    SERVICE/fallback        static or DNS addresses             the aggregate
    SERVICE/with-fallback   an aggregate: the first, and while  the route
                            it has no endpoint the second

Health checks are off: the API server knows what is ready. Retries are for requests that no pod has
begun to handle; and for those that only read, also where the connection ended before an answer began: a server
that stops or has waited long enough closes a kept HTTP/1.1 connection, and a request may be on its way there
(RFC 9110, 9.2.2). Sources: Envoy's aggregate cluster, "Configuring Envoy as an edge proxy".
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from trimtab.control.config import Address
from trimtab.control.edge.model import Edge, Fallback, Route
from trimtab.control.trust import PLAINTEXT, Trust

_TYPE = "type.googleapis.com/envoy"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_CONTROL_PLANE = "trimtab"
_BUFFER_BYTES = 32 * 1024
_MAX_STREAMS = 100  # per connection from outside
_START_WITHIN = "5s"  # without a control plane listeners open after this, not after 15 s
_UNLIMITED = 2**32 - 1
_IDLE_S = 300.0  # Envoy's own default, after which a silent stream is reset
_NOT_BEGUN = "connect-failure,refused-stream,reset-before-request"
_NOT_ANSWERED = f"{_NOT_BEGUN},reset"
_READING = "GET|HEAD|OPTIONS"

Json = dict[str, Any]


def envoy_config(
    edge: Edge,
    server: Address,
    node: Mapping[str, Any],
    *,
    endpoints_only: bool,
    trust: Trust = PLAINTEXT,
) -> Json:
    """The bootstrap.

    Args:
        edge: what it is to do.
        server: the control plane, as this Envoy reaches it.
        node: who this Envoy is.
        endpoints_only: no clusters and no ADS from trimtab, only EDS: for an Envoy whose ADS leads
            elsewhere. Policies of the Services then have no effect; balancing is least request.
        trust: how it and the control plane know each other.
    """
    clusters = [{**_control_plane(server, trust), **trust.envoy_socket(server)}]
    if endpoints_only:
        clusters += map(_endpoints_cluster, {r.service: r for r in edge.routes}.values())
    for service, fallback in {r.service: r.fallback for r in edge.routes if r.fallback}.items():
        clusters += _aggregate(service, fallback)
    config: Json = {
        "node": dict(node),
        "admin": {"address": _address(edge.admin)},
        # How many requests each endpoint got; delta has no form of this.
        "cluster_manager": {"load_stats_config": _api("GRPC")},
        "static_resources": {
            "listeners": [_listener(a, edge.routes) for a in edge.listeners],
            "clusters": clusters,
        },
    }
    if not endpoints_only:
        config["dynamic_resources"] = {
            "ads_config": _api(),
            "cds_config": {
                "resource_api_version": "V3",
                "ads": {},
                "initial_fetch_timeout": _START_WITHIN,
            },
        }
    return config


def _listener(address: Address, routes: Iterable[Route]) -> Json:
    name = str(address)
    manager = {
        "@type": f"{_TYPE}.extensions.filters.network.http_connection_manager.v3"
        ".HttpConnectionManager",
        "stat_prefix": "edge",
        # Who comes from outside can't say where he comes from, nor hide a path from the routes.
        "use_remote_address": True,
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT",
        "http2_protocol_options": {"max_concurrent_streams": _MAX_STREAMS},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPE}.extensions.filters.http.router.v3.Router"},
            }
        ],
        "route_config": {
            "name": "edge",
            # Clusters come later than routes, and a Service may not be there yet.
            "validate_clusters": False,
            "ignore_port_in_host_matching": True,
            "virtual_hosts": _virtual_hosts(routes),
        },
    }
    return {
        "name": name,
        "address": _address(address),
        "per_connection_buffer_limit_bytes": _BUFFER_BYTES,
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": manager,
                    }
                ]
            }
        ],
    }


def _virtual_hosts(routes: Iterable[Route]) -> list[Json]:
    """One for each host name: in Envoy no two may share one."""
    by_host: dict[str, list[Json]] = {}
    for route in routes:
        for host in route.hosts:
            by_host.setdefault(host, []).extend(_routes(route))
    return [{"name": host, "domains": [host], "routes": found} for host, found in by_host.items()]


def _routes(route: Route) -> list[Json]:
    """One for requests that only read, if that makes a difference, and one for all."""
    prefix = route.prefix.rstrip("/")
    match: Json = {"path_separated_prefix": prefix} if prefix else {"prefix": "/"}
    every = {"match": match, "route": _action(route, _NOT_BEGUN)}
    if not route.retries:
        return [every]
    methods = {"name": ":method", "string_match": {"safe_regex": {"regex": _READING}}}
    reading = {**match, "headers": [methods]}
    return [{"match": reading, "route": _action(route, _NOT_ANSWERED)}, every]


def _action(route: Route, retry_on: str) -> Json:
    action: Json = {
        "cluster": f"{route.service}/with-fallback" if route.fallback else route.service,
        "timeout": f"{route.timeout_s:.9g}s",
        "idle_timeout": f"{_idle_s(route):.9g}s",
    }
    if route.retries:
        previous = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
        action["retry_policy"] = {
            "retry_on": retry_on,
            "num_retries": route.retries,
            "retry_host_predicate": [
                {
                    "name": "envoy.retry_host_predicates.previous_hosts",
                    "typed_config": {"@type": f"type.googleapis.com/{previous}"},
                }
            ],
            "host_selection_retry_max_attempts": 3,
            "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
        }
    if route.hash_key:
        action["hash_policy"] = [{"header": {"header_name": route.hash_key}}]
    return action


def _idle_s(route: Route) -> float:
    if route.idle_timeout_s is not None:
        return route.idle_timeout_s
    return max(route.timeout_s, _IDLE_S) if route.timeout_s else 0.0


def _aggregate(service: str, fallback: Fallback) -> list[Json]:
    name = f"{service}/fallback"
    literal = all(_is_literal(a.host) for a in fallback.addresses)
    second: Json = {
        "name": name,
        "type": "STATIC" if literal else "STRICT_DNS",
        "dns_lookup_family": "ALL",
        "connect_timeout": "2s",
        "lb_policy": "LEAST_REQUEST",
        "load_assignment": _assignment(name, fallback.addresses),
        "circuit_breakers": _BREAKERS,
    }
    if fallback.http2:
        second |= _http2()
    both = {
        "name": f"{service}/with-fallback",
        "connect_timeout": "2s",
        "lb_policy": "CLUSTER_PROVIDED",
        "circuit_breakers": _BREAKERS,
        "cluster_type": {
            "name": "envoy.clusters.aggregate",
            "typed_config": {
                "@type": f"{_TYPE}.extensions.clusters.aggregate.v3.ClusterConfig",
                "clusters": [service, name],
            },
        },
    }
    return [second, both]


def _endpoints_cluster(route: Route) -> Json:
    cluster: Json = {
        "name": route.service,
        "type": "EDS",
        "connect_timeout": "2s",
        "lb_policy": "LEAST_REQUEST",
        "least_request_lb_config": {"slow_start_config": {"slow_start_window": "10s"}},
        # 0: Envoy must not fall back to endpoints that are known to be away.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "circuit_breakers": _BREAKERS,
        "eds_cluster_config": {
            "eds_config": {
                "resource_api_version": "V3",
                "initial_fetch_timeout": _START_WITHIN,
                "api_config_source": _api(),
            }
        },
    }
    return cluster | _http2() if route.http2 else cluster


def _control_plane(server: Address, trust: Trust) -> Json:
    keepalive = {"interval": "30s", "timeout": "5s"}  # one that died without a word is noticed
    return {
        "name": _CONTROL_PLANE,
        "type": "STATIC" if _is_literal(server.host) else "STRICT_DNS",
        # By default a name with an IPv6 address is asked at that one only.
        "dns_lookup_family": "ALL",
        "connect_timeout": "2s",
        "load_assignment": _assignment(_CONTROL_PLANE, [server]),
        # A stream for each Service with endpoints only.
        "circuit_breakers": _BREAKERS,
        **_http2({"connection_keepalive": keepalive}, trust.envoy_filters()),
    }


def _api(kind: str = "DELTA_GRPC") -> Json:
    return {
        "api_type": kind,
        "transport_api_version": "V3",
        "grpc_services": [
            {
                "envoy_grpc": {
                    "cluster_name": _CONTROL_PLANE,
                    # Envoy's own longest is half a minute.
                    "retry_policy": {
                        "retry_back_off": {"base_interval": "0.5s", "max_interval": "5s"}
                    },
                }
            }
        ],
    }


def _http2(options: Json | None = None, more: Json | None = None) -> Json:
    return {
        "typed_extension_protocol_options": {
            _HTTP_OPTIONS: {
                "@type": f"type.googleapis.com/{_HTTP_OPTIONS}",
                "explicit_http_config": {"http2_protocol_options": options or {}},
                **(more or {}),
            }
        }
    }


def _assignment(name: str, addresses: Iterable[Address]) -> Json:
    endpoints = [{"endpoint": {"address": _address(a)}} for a in addresses]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}


def _address(address: Address) -> Json:
    return {"socket_address": {"address": address.host, "port_value": address.port}}


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


_BREAKERS: Json = {
    # Envoy's own limit is 1,024 requests, for the edge as a whole.
    "thresholds": [
        {
            "max_connections": _UNLIMITED,
            "max_pending_requests": _UNLIMITED,
            "max_requests": _UNLIMITED,
            "retry_budget": {"budget_percent": {"value": 20.0}, "min_retry_concurrency": 3},
        }
    ]
}
