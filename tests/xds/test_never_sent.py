"""Nothing that a client of another make rejects is ever sent (docs/reference/rejections.md).

Over random snapshots; read with the official messages.
"""

import ipaddress

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import health_check_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from google.protobuf import any_pb2
from hypothesis import given

from trimtab.model import Endpoint, Snapshot
from trimtab.xds.assignments import Fragments, View, assignment_resource
from trimtab.xds.resources import cluster_resource, listener_resource, route_resource
from xds_snapshots import snapshots

TOP = 2**32 - 1
WRR_LOCALITY = "envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality"


def official(resource, message):
    return message.FromString(any_pb2.Any.FromString(resource.body).value)


def sent_routes(snap):
    inline = official(listener_resource("orders", snap.cluster), listener_pb2.Listener)
    manager = hcm_pb2.HttpConnectionManager.FromString(inline.api_listener.api_listener.value)
    apart = official(route_resource("orders", snap.cluster), route_pb2.RouteConfiguration)
    return [manager.route_config, apart]


@given(snapshots())
def test_no_cluster_that_any_client_rejects_is_sent(snap):
    cluster = official(cluster_resource(snap.cluster, snap), cluster_pb2.Cluster)
    assert cluster.name == snap.cluster
    assert cluster.type == cluster_pb2.Cluster.EDS
    assert cluster.eds_cluster_config.eds_config.HasField("ads")
    assert cluster.lb_policy == cluster_pb2.Cluster.ROUND_ROBIN
    listed = [
        p.typed_extension_config.typed_config.type_url.rpartition("/")[2]
        for p in cluster.load_balancing_policy.policies
    ]
    assert listed[-1] == WRR_LOCALITY
    outliers = cluster.outlier_detection
    if cluster.HasField("outlier_detection"):
        # gRPC for Node ends in a TypeError where any of these is unset.
        assert outliers.HasField("enforcing_success_rate")
        assert outliers.HasField("success_rate_minimum_hosts")
        assert outliers.HasField("success_rate_request_volume")
        assert outliers.HasField("success_rate_stdev_factor")
        assert outliers.max_ejection_percent.value <= 100
        assert outliers.max_ejection_time.ToNanoseconds() >= (
            outliers.base_ejection_time.ToNanoseconds()
        )
    assert not cluster.HasField("transport_socket")
    assert not cluster.HasField("lrs_server")


@given(snapshots())
def test_no_endpoints_that_any_client_rejects_are_sent(snap):
    lean = assignment_resource(snap.cluster, snap, Fragments(View.LEAN), View.LEAN, salt="")
    message = official(lean, endpoint_pb2.ClusterLoadAssignment)
    assert message.cluster_name == snap.cluster
    priorities = [g.priority for g in message.endpoints]
    assert set(priorities) == set(range(len(set(priorities))))
    places = [(g.priority, g.locality.SerializeToString()) for g in message.endpoints]
    assert len(places) == len(set(places))
    assert sum(g.load_balancing_weight.value for g in message.endpoints) <= TOP
    addresses = []
    for group in message.endpoints:
        assert group.HasField("locality")
        assert group.load_balancing_weight.value >= 1
        assert sum(e.load_balancing_weight.value for e in group.lb_endpoints) <= TOP
        for endpoint in group.lb_endpoints:
            socket = endpoint.endpoint.address.socket_address
            assert ipaddress.ip_address(socket.address)
            addresses.extend(
                (a.address.socket_address.address, socket.port_value)
                for a in endpoint.endpoint.additional_addresses
            )
            assert 1 <= socket.port_value <= 65535
            assert socket.protocol == socket.TCP
            assert endpoint.load_balancing_weight.value >= 1
            usable = {health_check_pb2.UNKNOWN, health_check_pb2.HEALTHY}
            assert endpoint.health_status in usable
            addresses.append((socket.address, socket.port_value))
    assert len(addresses) == len(set(addresses))


@given(snapshots())
def test_no_listener_that_any_client_rejects_is_sent(snap):
    listener = official(listener_resource("orders", snap.cluster), listener_pb2.Listener)
    manager = hcm_pb2.HttpConnectionManager.FromString(listener.api_listener.api_listener.value)
    assert manager.WhichOneof("route_specifier") == "route_config"
    (only,) = manager.http_filters
    assert only.typed_config.type_url.endswith(".router.v3.Router")
    assert manager.xff_num_trusted_hops == 0


@given(snapshots())
def test_no_routes_that_any_client_rejects_are_sent(snap):
    for routes in sent_routes(snap):
        (host,) = routes.virtual_hosts
        assert list(host.domains) == ["*"]
        (route,) = host.routes
        assert route.match.WhichOneof("path_specifier") == "prefix"
        assert route.route.cluster == snap.cluster != ""


@given(snapshots())
def test_all_that_is_sent_can_be_read(snap):
    lean = assignment_resource(snap.cluster, snap, Fragments(View.LEAN), View.LEAN, salt="")
    assert official(lean, endpoint_pb2.ClusterLoadAssignment).IsInitialized()
    assert official(cluster_resource(snap.cluster, snap), cluster_pb2.Cluster).IsInitialized()
    assert all(routes.IsInitialized() for routes in sent_routes(snap))


def test_a_second_address_that_two_endpoints_share_is_sent_once():
    """gRPC for Python refuses the whole cluster; found by fleet 116 of the random ones."""
    shared, own = "2001:db8::2c", "2001:db8::1"
    snap = Snapshot(
        "orders.shop:8080",
        (
            Endpoint("10.0.0.1", 80, additional_addresses=(shared, own)),
            Endpoint("10.0.0.2", 80, additional_addresses=(shared,)),
            Endpoint("10.0.0.3", 81, additional_addresses=(shared,)),
            Endpoint("2001:db8::1", 80),
        ),
    )
    lean = assignment_resource(snap.cluster, snap, Fragments(View.LEAN), View.LEAN, salt="")
    (group,) = official(lean, endpoint_pb2.ClusterLoadAssignment).endpoints
    assert [
        [a.address.socket_address.address for a in e.endpoint.additional_addresses]
        for e in group.lb_endpoints
    ] == [[shared], [], [shared], []]
