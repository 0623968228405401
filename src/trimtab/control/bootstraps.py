"""Ready bootstraps: what a client must be told to find this control plane."""

from __future__ import annotations

import json
import shlex
import socket
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trimtab.control.config import Address
from trimtab.control.edge.envoy import envoy_config
from trimtab.control.edge.route_file import load_edge
from trimtab.control.trust import PLAINTEXT, Trust, envoy_secret
from trimtab.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the client says it is.

    Attributes:
        node_id: unique per process by convention; "" takes this machine's name.
        zone: where it runs, "" if unknown.
        namespace: expands names without one, "" if unknown.
        service: the Service that it is part of, "" if unknown: the zones of its pods count.
        node_name: its Kubernetes node, whose zone the control plane looks up; "" if unknown.
    """

    node_id: str = ""
    zone: str = ""
    namespace: str = ""
    service: str = ""
    node_name: str = ""

    def node(self, *, cluster: str = "") -> dict[str, Any]:
        """As gRPC's and Envoy's ``node``. ``cluster`` stands there if no Service is known."""
        node: dict[str, Any] = {"id": self.node_id or socket.gethostname()}
        if self.service or cluster:
            node["cluster"] = self.service or cluster
        if self.zone:
            node["locality"] = {"zone": self.zone}
        metadata = {"namespace": self.namespace, "node_name": self.node_name}
        if known := {key: value for key, value in metadata.items() if value}:
            node["metadata"] = known
        return node


def grpc_bootstrap(servers: Sequence[Address], identity: Identity, trust: Trust = PLAINTEXT) -> str:
    """The JSON that native gRPC reads from ``GRPC_XDS_BOOTSTRAP`` (gRFC A27).

    ``ignore_resource_deletion`` (gRFC A53): a client keeps what it has when a control plane stops
    naming it, so that a mistake there is not an outage here; a Service that is really gone still
    shows, since its endpoints are. ``locality`` stands there even when it is empty: gRPC for Node
    refuses a node without one.
    """
    node = {"locality": {}, **identity.node()}
    described = [
        {
            "server_uri": str(server),
            **trust.grpc_credentials(),
            "server_features": ["xds_v3", "ignore_resource_deletion"],
        }
        for server in servers
    ]
    document = {"xds_servers": described, "node": node}
    return json.dumps(document, indent=2) + "\n"


def trimtab_bootstrap(
    servers: Sequence[Address], identity: Identity, trust: Trust = PLAINTEXT
) -> str:
    """The environment of a trimtab client, for a shell.

    Raises:
        ConfigError: a node id was given, for which the short form has no place.
    """
    if identity.node_id:
        raise ConfigError(
            f"--node-id {identity.node_id!r}: the short form has no node id (a client makes one of "
            "host name and process id); leave it out, or use --for grpc, which trimtab reads too"
        )
    lines = [f"export TRIMTAB_CONTROL_PLANE={shlex.quote(','.join(map(str, servers)))}"]
    if identity.namespace:
        lines.append(f"export TRIMTAB_NAMESPACE={shlex.quote(identity.namespace)}")
    if identity.zone:
        lines.append(f"export TRIMTAB_ZONE={shlex.quote(identity.zone)}")
    if identity.service:
        lines.append(f"export TRIMTAB_SERVICE={shlex.quote(identity.service)}")
    if identity.node_name:
        lines.append(f"export TRIMTAB_NODE_NAME={shlex.quote(identity.node_name)}")
    lines += [f"export {name}={shlex.quote(file)}" for name, file in trust.variables().items()]
    return "\n".join(lines) + "\n"


def envoy_bootstrap(server: Address, identity: Identity, trust: Trust = PLAINTEXT) -> str:
    """A minimal Envoy bootstrap over ADS, with the EDS-only form beside it in comments.

    Raises:
        ConfigError: a token, and no place for Envoy's file about it.
    """
    socket = yaml.safe_dump(trust.envoy_socket(server) or None, sort_keys=False)
    filters = yaml.safe_dump(trust.envoy_filters() or None, sort_keys=False)
    values = {
        "node": _indented(identity.node(cluster="ingress"), 2),
        "host": json.dumps(server.host),
        "port": str(server.port),
        "tls": textwrap.indent(socket, "    ") if trust.ca else "",
        "token": textwrap.indent(filters, " " * 8) if trust.token_file else "",
    }
    return _ENVOY.format_map(values)


def edge_bootstrap(
    server: Address,
    identity: Identity,
    routes: Path,
    *,
    endpoints_only: bool,
    trust: Trust = PLAINTEXT,
) -> str:
    """An Envoy with listeners, routes and clusters from a route file (``edge.route_file``).

    Raises:
        ConfigError: the file is not right, or a token, and no place for Envoy's file about it.
    """
    edge = load_edge(routes, endpoints_only=endpoints_only)
    node = identity.node(cluster="ingress")
    config = envoy_config(edge, server, node, endpoints_only=endpoints_only, trust=trust)
    return _EDGE_HEADING + yaml.dump(_quoted(config), Dumper=_Dumper, sort_keys=False)


class _Text(str):
    """A value that is written in quotes: to Envoy a bare ``n``, say of a node's id, is false."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature of PyYAML
        return True


_Dumper.add_representer(
    _Text, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


def _quoted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _quoted(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_quoted(inner) for inner in value]
    return _Text(value) if isinstance(value, str) else value


def secret_file(token_file: str) -> str:
    """The file that ``trust.Trust.secret_file`` names, as YAML.

    Raises:
        ConfigError: there is no token.
    """
    return yaml.safe_dump(envoy_secret(token_file), sort_keys=False)


def _indented(node: Mapping[str, Any], depth: int) -> str:
    """A mapping of strings and mappings as block YAML; JSON strings are YAML strings."""
    lines: list[str] = []
    for key, value in node.items():
        if isinstance(value, Mapping):
            lines.append(f"{' ' * depth}{key}:")
            lines.append(_indented(value, depth + 2))
        else:
            lines.append(f"{' ' * depth}{key}: {json.dumps(value)}")
    return "\n".join(lines)


_EDGE_HEADING = "# From `trimtab bootstrap --for envoy --routes`. Try it: envoy -c FILE\n"

_ENVOY = """\
# Envoy reads its clusters and their endpoints from trimtab. Try it: envoy -c FILE
# node.cluster is the Service that this Envoy itself belongs to; Envoy insists on having one.
node:
{node}

admin:
  address:
    socket_address: {{address: 127.0.0.1, port_value: 9901}}

dynamic_resources:
  ads_config:
    # Not GRPC: then all clusters are sent again when one changes.
    api_type: DELTA_GRPC
    transport_api_version: V3
    grpc_services:
    - envoy_grpc: {{cluster_name: trimtab}}
  # Every Service port becomes a cluster named SERVICE.NAMESPACE:PORT. Listeners and routes stay
  # yours: name such a cluster in a route, for example `cluster: orders.shop:8080`.
  cds_config:
    resource_api_version: V3
    ads: {{}}

cluster_manager:
  # How many requests each endpoint got, for `trimtab top` and the metrics. Delta has no form of this.
  load_stats_config:
    api_type: GRPC
    transport_api_version: V3
    grpc_services:
    - envoy_grpc: {{cluster_name: trimtab}}

static_resources:
  clusters:
  # The way to trimtab itself.
  - name: trimtab
    type: STRICT_DNS
    dns_lookup_family: ALL
    connect_timeout: 2s
    load_assignment:
      cluster_name: trimtab
      endpoints:
      - lb_endpoints:
        - endpoint:
            address:
              socket_address: {{address: {host}, port_value: {port}}}
{tls}    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config:
          http2_protocol_options:
            # A control plane that died without a word is noticed after 30 + 5 s.
            connection_keepalive: {{interval: 30s, timeout: 5s}}
{token}
# An Envoy whose ads_config leads elsewhere takes clusters over a stream of their own. They say where
# their endpoints are by the name that stands in the node's metadata:
#
#  node:
#    metadata: {{trimtab.dev/eds-cluster: trimtab}}
#  dynamic_resources:
#    cds_config:
#      resource_api_version: V3
#      api_config_source:
#        api_type: DELTA_GRPC
#        transport_api_version: V3
#        grpc_services:
#        - envoy_grpc: {{cluster_name: trimtab}}

# An existing Envoy that only wants endpoints (EDS) keeps its own clusters, takes the cluster
# `trimtab` from above, and asks for endpoints like this; dynamic_resources isn't needed then:
#
#  - name: orders
#    type: EDS
#    connect_timeout: 2s
#    lb_policy: LEAST_REQUEST
#    eds_cluster_config:
#      service_name: orders.shop:8080   # or a name given under `clusters` in trimtab's --config
#      eds_config:
#        resource_api_version: V3
#        api_config_source:
#          api_type: DELTA_GRPC
#          transport_api_version: V3
#          grpc_services:
#          - envoy_grpc: {{cluster_name: trimtab}}
"""
