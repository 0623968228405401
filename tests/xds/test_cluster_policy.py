"""One configuration, compiled for Envoy, native gRPC and trimtab: what each is told."""

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from envoy.extensions.load_balancing_policies.least_request.v3 import least_request_pb2
from envoy.extensions.load_balancing_policies.ring_hash.v3 import ring_hash_pb2
from google.protobuf import any_pb2

from trimtab.model import PolicyConfig
from trimtab.xds.decoding import decode_cluster
from trimtab.xds.resources import cluster_resource, listener_resource, route_resource
from xds_peer import snapshot

UNLIMITED = 2**32 - 1


def sent(policy):
    resource = cluster_resource("c", snapshot("10.0.0.1", policy=policy))
    return cluster_pb2.Cluster.FromString(any_pb2.Any.FromString(resource.body).value)


def entry(cluster, message):
    for policy in cluster.load_balancing_policy.policies:
        found = message()
        if policy.typed_extension_config.typed_config.Unpack(found):
            return found
    raise AssertionError(f"no {message.DESCRIPTOR.name} in {cluster.load_balancing_policy}")


@pytest.mark.parametrize(
    ("params", "seconds"),
    [({}, 10), ({"slow_start_s": 30}, 30), ({"slow_start_s": 0}, 0), ({"judges": False}, 0)],
)
def test_envoy_ramps_new_endpoints_for_as_long_as_the_service_says(params, seconds):
    least = entry(sent(PolicyConfig.of("p2c", **params)), least_request_pb2.LeastRequest)
    assert least.slow_start_config.slow_start_window.seconds == seconds
    assert least.HasField("slow_start_config") == bool(seconds)


@pytest.mark.parametrize(("zone", "weighted"), [("prefer", True), ("strict", True), ("off", False)])
def test_envoy_goes_by_the_weights_of_localities_unless_zones_are_off(zone, weighted):
    least = entry(sent(PolicyConfig.of("p2c", zone=zone)), least_request_pb2.LeastRequest)
    assert least.locality_lb_config.HasField("locality_weighted_lb_config") == weighted


def test_no_client_stops_at_1024_requests_unless_the_service_says_so():
    (thresholds,) = sent(None).circuit_breakers.thresholds
    assert thresholds.max_requests.value == UNLIMITED
    assert thresholds.max_pending_requests.value == thresholds.max_connections.value == UNLIMITED
    (thresholds,) = sent(PolicyConfig.of("p2c", max_requests=20)).circuit_breakers.thresholds
    assert thresholds.max_requests.value == 20


def test_outlier_detection_can_be_switched_off_and_given_a_duration():
    assert sent(None).outlier_detection.base_ejection_time.seconds == 10
    assert sent(PolicyConfig.of("p2c", eject_s=2)).outlier_detection.base_ejection_time.seconds == 2
    assert not sent(PolicyConfig.of("p2c", eject=False)).HasField("outlier_detection")


def test_what_only_other_clients_read_is_not_sent_to_trimtab_clients():
    policy = PolicyConfig.of("ring_hash", hash_key="x", hash_table="maglev", max_requests=3)
    resource = cluster_resource("c", snapshot("10.0.0.1", policy=policy))
    facts = decode_cluster(any_pb2.Any.FromString(resource.body).value)
    assert facts.policy == PolicyConfig.of("ring_hash", hash_key="x")


def test_a_parameter_out_of_range_counts_as_absent():
    cluster = sent(PolicyConfig.of("p2c", slow_start_s=-3, max_requests="many"))
    least = entry(cluster, least_request_pb2.LeastRequest)
    assert least.slow_start_config.slow_start_window.seconds == 10
    assert cluster.circuit_breakers.thresholds[0].max_requests.value == UNLIMITED


def test_the_key_of_ring_hash_becomes_the_hash_policy_of_the_route():
    policy = PolicyConfig.of("ring_hash", hash_key="x-user")
    body = any_pb2.Any.FromString(listener_resource("n", "c", policy).body).value
    manager = hcm_pb2.HttpConnectionManager.FromString(
        listener_pb2.Listener.FromString(body).api_listener.api_listener.value
    )
    body = any_pb2.Any.FromString(route_resource("n", "c", policy).body).value
    for routes in (manager.route_config, route_pb2.RouteConfiguration.FromString(body)):
        (route,) = routes.virtual_hosts[0].routes
        assert [p.header.header_name for p in route.route.hash_policy] == ["x-user"]
    ring = entry(sent(policy), ring_hash_pb2.RingHash)
    assert ring.hash_function == ring_hash_pb2.RingHash.XX_HASH
    # gRPC for Node 1.14: "min_ring_size must be a number if provided", whatever is provided.
    assert not ring.HasField("minimum_ring_size")
    assert not ring.HasField("maximum_ring_size")


@pytest.mark.parametrize("policy", [None, PolicyConfig("ring_hash"), PolicyConfig("p2c")])
def test_without_a_key_the_route_has_no_hash_policy(policy):
    body = any_pb2.Any.FromString(route_resource("n", "c", policy).body).value
    (route,) = route_pb2.RouteConfiguration.FromString(body).virtual_hosts[0].routes
    assert not route.route.hash_policy
