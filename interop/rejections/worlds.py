"""The good resources behind one name: what a case spoils one part of."""

from dataclasses import dataclass, field

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf import json_format

_PREFIX = "type.googleapis.com/envoy.config"
LDS = f"{_PREFIX}.listener.v3.Listener"
RDS = f"{_PREFIX}.route.v3.RouteConfiguration"
CDS = f"{_PREFIX}.cluster.v3.Cluster"
EDS = f"{_PREFIX}.endpoint.v3.ClusterLoadAssignment"
ADS = {"ads": {}, "resource_api_version": "V3"}


def extension(message, **fields):
    """A typed extension in JSON."""
    kind = message.DESCRIPTOR.full_name
    return {"@type": f"type.googleapis.com/{kind}", **fields}


def router():
    return {"name": "router", "typed_config": extension(router_pb2.Router)}


@dataclass
class World:
    """The resources of one name, as JSON values of the official messages.

    Attributes:
        raw: bytes in place of a message, by type URL.
    """

    name: str
    port: int
    connections: dict = field(init=False)
    listener: dict = field(init=False)
    routes: dict = field(init=False)
    cluster: dict = field(init=False)
    assignment: dict = field(init=False)
    raw: dict = field(default_factory=dict)

    def __post_init__(self):
        self.connections = extension(
            hcm_pb2.HttpConnectionManager,
            stat_prefix="rejections",
            rds={"route_config_name": self.name, "config_source": ADS},
            http_filters=[router()],
        )
        self.listener = {"name": self.name, "api_listener": {"api_listener": self.connections}}
        route = {"match": {"prefix": ""}, "route": {"cluster": self.name}}
        host = {"name": "all", "domains": ["*"], "routes": [route]}
        self.routes = {"name": self.name, "virtual_hosts": [host]}
        http2 = extension(
            http_protocol_options_pb2.HttpProtocolOptions,
            explicit_http_config={"http2_protocol_options": {}},
        )
        options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        self.cluster = {
            "name": self.name,
            "type": "EDS",
            "eds_cluster_config": {"eds_config": ADS},
            "connect_timeout": "1s",
            "typed_extension_protocol_options": {options: http2},
        }
        self.assignment = {"cluster_name": self.name, "endpoints": [self.group()]}

    def endpoint(self, **changes):
        """An endpoint that answers, unless changed."""
        socket = {"address": "127.0.0.1", "port_value": self.port}
        socket.update(changes.pop("socket", {}))
        address = changes.pop("address", {"socket_address": socket})
        return {"endpoint": {"address": address}, **changes}

    def group(self, **changes):
        """A locality with one endpoint, unless changed."""
        zone = changes.pop("zone", "z1")
        return {
            "locality": {"zone": zone},
            "load_balancing_weight": 1,
            "lb_endpoints": [self.endpoint()],
            **changes,
        }

    @property
    def route(self):
        return self.routes["virtual_hosts"][0]["routes"][0]

    def resources(self):
        """All four: type URL, name, encoded message."""
        parts = {
            LDS: (self.listener, listener_pb2.Listener),
            RDS: (self.routes, route_pb2.RouteConfiguration),
            CDS: (self.cluster, cluster_pb2.Cluster),
            EDS: (self.assignment, endpoint_pb2.ClusterLoadAssignment),
        }
        return [
            (type_url, self.name, self.raw.get(type_url) or _encoded(value, message))
            for type_url, (value, message) in parts.items()
        ]


def _encoded(value, message):
    return json_format.ParseDict(value, message()).SerializeToString(deterministic=True)
