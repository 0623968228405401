"""The bad resources. Each spoils one part of a good world; names say what is wrong."""

from collections.abc import Callable
from dataclasses import dataclass

from envoy.extensions.load_balancing_policies.least_request.v3 import least_request_pb2
from envoy.extensions.load_balancing_policies.random.v3 import random_pb2
from envoy.extensions.load_balancing_policies.ring_hash.v3 import ring_hash_pb2
from google.protobuf import struct_pb2
from xds.type.v3 import typed_struct_pb2

from rejections.worlds import CDS, EDS, LDS, RDS, World, extension

TOP = 2**32 - 1
NOT_ADS = {"path_config_source": {"path": "/nowhere"}, "resource_api_version": "V3"}
GARBAGE = b"\xff\xff\xff\xff"


@dataclass(frozen=True)
class Case:
    """One bad resource.

    Attributes:
        name: words with dashes.
        type_url: of the resource that is bad.
        spoil: changes a world.
        guard: the test that proves that trimtab never sends this.
    """

    name: str
    type_url: str
    spoil: Callable[[World], None]
    guard: str

    @property
    def title(self):
        return self.name.replace("-", " ")


NEVER = "tests/xds/test_never_sent.py::"


def _cluster(name, /, **changes):
    return Case(
        name,
        CDS,
        lambda w: w.cluster.update(changes),
        NEVER + "test_no_cluster_that_any_client_rejects_is_sent",
    )


def _policies(name, config):
    policy = {"typed_extension_config": {"name": "x", "typed_config": config}}
    return _cluster(name, load_balancing_policy={"policies": [policy]})


def _endpoints(name, groups):
    def spoil(world):
        world.assignment["endpoints"] = groups(world)

    return Case(name, EDS, spoil, NEVER + "test_no_endpoints_that_any_client_rejects_are_sent")


def _endpoint(name, /, **changes):
    return _endpoints(name, lambda w: [w.group(lb_endpoints=[w.endpoint(**changes)])])


def _socket(name, /, **socket):
    return _endpoint(name, socket=socket)


def _listener(name, spoil):
    return Case(name, LDS, spoil, NEVER + "test_no_listener_that_any_client_rejects_is_sent")


def _connections(name, /, **changes):
    return _listener(name, lambda w: w.connections.update(changes))


def _routes(name, spoil):
    return Case(name, RDS, spoil, NEVER + "test_no_routes_that_any_client_rejects_are_sent")


def _hosts(name, *domains):
    def spoil(world):
        route = world.route
        world.routes["virtual_hosts"] = [
            {"name": str(number), "domains": list(patterns), "routes": [route]}
            for number, patterns in enumerate(domains)
        ]

    return _routes(name, spoil)


def _route(name, /, **changes):
    return _routes(name, lambda w: w.route.update(changes))


def _garbage(name, type_url):
    def spoil(world):
        world.raw[type_url] = GARBAGE

    return Case(name, type_url, spoil, NEVER + "test_all_that_is_sent_can_be_read")


def _split(*weights):
    def spoil(world):
        clusters = [{"name": world.name, "weight": weight} for weight in weights]
        world.route["route"] = {"weighted_clusters": {"clusters": clusters}}

    return spoil


_UNKNOWN = extension(struct_pb2.Struct, value={})
_STRUCT = {
    "@type": f"type.googleapis.com/{typed_struct_pb2.TypedStruct.DESCRIPTOR.full_name}",
    "type_url": "type.googleapis.com/example.NoSuchPolicy",
    "value": {},
}

CASES = (
    _cluster("least-request-in-lb-policy", lb_policy="LEAST_REQUEST"),
    _cluster("random-in-lb-policy", lb_policy="RANDOM"),
    _policies("policy-list-of-least-request-only", extension(least_request_pb2.LeastRequest)),
    _policies("policy-list-of-random-only", extension(random_pb2.Random)),
    _policies("policy-list-of-an-unknown-policy-only", _STRUCT),
    _policies("ring-hash-without-hash-function", extension(ring_hash_pb2.RingHash)),
    _cluster("empty-policy-list", load_balancing_policy={"policies": []}),
    _cluster("cluster-type-static", type="STATIC", eds_cluster_config=None),
    _cluster("cluster-type-dns-without-hosts", type="LOGICAL_DNS", eds_cluster_config=None),
    _cluster("endpoints-from-a-file", eds_cluster_config={"eds_config": NOT_ADS}),
    _cluster("endpoints-from-nowhere", eds_cluster_config={}),
    _cluster(
        "empty-endpoints-name", eds_cluster_config={"service_name": "", "eds_config": {"ads": {}}}
    ),
    _cluster("empty-cluster-name", name=""),
    _cluster("ejection-of-150-percent", outlier_detection={"max_ejection_percent": 150}),
    _cluster("negative-outlier-interval", outlier_detection={"interval": "-1s"}),
    _cluster("unknown-transport-socket", transport_socket={"name": "x", "typed_config": _UNKNOWN}),
    _cluster("load-reports-to-a-file", lrs_server=NOT_ADS),
    _garbage("garbage-for-a-cluster", CDS),
    _endpoints("no-locality", lambda w: [w.group(locality=None)]),
    _endpoints("no-locality-weight", lambda w: [w.group(load_balancing_weight=None)]),
    _endpoints("locality-weight-0", lambda w: [w.group(load_balancing_weight=0)]),
    _endpoints(
        "locality-weights-above-uint32",
        lambda w: [
            w.group(load_balancing_weight=TOP),
            w.group(
                zone="z2",
                load_balancing_weight=TOP,
                lb_endpoints=[w.endpoint(socket={"address": "127.0.0.2"})],
            ),
        ],
    ),
    _endpoints("first-priority-1", lambda w: [w.group(priority=1)]),
    _endpoints(
        "priority-gap",
        lambda w: [
            w.group(),
            w.group(priority=2, lb_endpoints=[w.endpoint(socket={"address": "127.0.0.2"})]),
        ],
    ),
    _endpoints("address-twice", lambda w: [w.group(lb_endpoints=[w.endpoint(), w.endpoint()])]),
    _endpoints("address-in-two-localities", lambda w: [w.group(), w.group(zone="z2")]),
    _endpoints(
        "locality-twice",
        lambda w: [
            w.group(),
            w.group(lb_endpoints=[w.endpoint(socket={"address": "127.0.0.2"})]),
        ],
    ),
    _endpoint("endpoint-weight-0", load_balancing_weight=0),
    _endpoints(
        "endpoint-weights-above-uint32",
        lambda w: [
            w.group(
                lb_endpoints=[
                    w.endpoint(load_balancing_weight=TOP),
                    w.endpoint(load_balancing_weight=TOP, socket={"address": "127.0.0.2"}),
                ]
            )
        ],
    ),
    _socket("port-0", port_value=0),
    _socket("port-70000", port_value=70000),
    _socket("host-name-as-address", address="localhost"),
    _socket("empty-address", address=""),
    _socket("udp-address", protocol="UDP"),
    _endpoint("pipe-as-address", address={"pipe": {"path": "/nowhere"}}),
    _endpoint("only-unhealthy", health_status="UNHEALTHY"),
    _endpoint("only-draining", health_status="DRAINING"),
    _endpoint("only-timeout", health_status="TIMEOUT"),
    _endpoint("only-degraded", health_status="DEGRADED"),
    _endpoint("unknown-health-status", health_status=77),
    _garbage("garbage-for-endpoints", EDS),
    _listener("no-api-listener", lambda w: w.listener.pop("api_listener")),
    _listener(
        "api-listener-of-another-kind",
        lambda w: w.listener.update(api_listener={"api_listener": _UNKNOWN}),
    ),
    _connections("no-http-filters", http_filters=[]),
    _connections(
        "unknown-http-filter",
        http_filters=[
            {"name": "x", "typed_config": _UNKNOWN},
            {
                "name": "router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                },
            },
        ],
    ),
    _connections("no-router-at-the-end", http_filters=[{"name": "x", "typed_config": _UNKNOWN}]),
    _connections("trusted-hops", xff_num_trusted_hops=1),
    _connections("routes-from-a-file", rds={"route_config_name": "x", "config_source": NOT_ADS}),
    _connections("neither-routes-nor-their-name", rds=None),
    _garbage("garbage-for-a-listener", LDS),
    _hosts("no-matching-domain", ["other.example"]),
    _hosts("no-virtual-host"),
    _hosts("virtual-host-without-domains", []),
    _hosts("wildcard-in-the-middle", ["or*ders"]),
    _hosts("domain-twice", ["*"], ["*"]),
    _route("route-without-matcher", match={}),
    _route("broken-path-expression", match={"safe_regex": {"regex": "("}}),
    _route("connect-matcher", match={"connect_matcher": {}}),
    _route("route-without-action", route=None),
    _route("empty-cluster-in-route", route={"cluster": ""}),
    _routes("cluster-weights-of-0", _split(0, 0)),
    _routes("cluster-weights-above-uint32", _split(TOP, TOP)),
    _garbage("garbage-for-routes", RDS),
)
