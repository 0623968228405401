"""The type URLs of the resources, extensions and policies that trimtab sends and understands."""

from __future__ import annotations

from typing import Final

_PREFIX = "type.googleapis.com/"

CDS: Final = _PREFIX + "envoy.config.cluster.v3.Cluster"
EDS: Final = _PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
LDS: Final = _PREFIX + "envoy.config.listener.v3.Listener"
RDS: Final = _PREFIX + "envoy.config.route.v3.RouteConfiguration"

ORDER: Final = (CDS, EDS, LDS, RDS)
"""Make before break: a cluster exists before its endpoints, both before a route names them."""

FULL_SET: Final = frozenset({CDS, LDS})
"""Types whose state-of-the-world responses carry everything: what is absent has been deleted."""

HTTP_CONNECTION_MANAGER: Final = (
    _PREFIX + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
)
ROUTER: Final = _PREFIX + "envoy.extensions.filters.http.router.v3.Router"
HTTP_PROTOCOL_OPTIONS: Final = _PREFIX + "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

LEAST_REQUEST: Final = (
    _PREFIX + "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest"
)
ROUND_ROBIN: Final = _PREFIX + "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin"
RANDOM: Final = _PREFIX + "envoy.extensions.load_balancing_policies.random.v3.Random"
RING_HASH: Final = _PREFIX + "envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash"
MAGLEV: Final = _PREFIX + "envoy.extensions.load_balancing_policies.maglev.v3.Maglev"
CLIENT_SIDE_WRR: Final = (
    _PREFIX + "envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3"
    ".ClientSideWeightedRoundRobin"
)
WRR_LOCALITY: Final = (
    _PREFIX + "envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality"
)
TYPED_STRUCT: Final = _PREFIX + "xds.type.v3.TypedStruct"
POLICY: Final = _PREFIX + "trimtab.v1.Policy"
"""Inside a TypedStruct: trimtab's own policy, which others skip (gRFC A52)."""

METADATA: Final = "trimtab.dev"
"""The ``filter_metadata`` key of what only trimtab clients read."""


LATENCY: Final = "trimtab.dev/latency_seconds"
"""The metric of load reports that says how long requests took, together."""


def short(type_url: str) -> str:
    """``CDS``, ``EDS``, ``LDS``, ``RDS``, or the type's last word, for texts."""
    return _SHORT.get(type_url) or type_url.rpartition(".")[2]


_SHORT = {CDS: "CDS", EDS: "EDS", LDS: "LDS", RDS: "RDS"}
