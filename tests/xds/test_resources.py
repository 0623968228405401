"""What we encode, the official messages decode to the same, for random resources, and back."""

import re

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import health_check_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from envoy.extensions.load_balancing_policies.wrr_locality.v3 import wrr_locality_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf import any_pb2
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import given
from xds.type.v3 import typed_struct_pb2

from encodings_count import Encodings
from trimtab.model import (
    MAX_WEIGHT,
    Endpoint,
    Health,
    Locality,
    PolicyConfig,
    Removed,
    Snapshot,
    Synced,
    Updated,
)
from trimtab.xds import cluster_views
from trimtab.xds.assignments import MAX_BODY, Fragments, View, assignment_resource
from trimtab.xds.catalog import Catalog, Client, ClientKind
from trimtab.xds.cluster_policy import CLUSTER_PARAMS
from trimtab.xds.decoding import decode_cluster
from trimtab.xds.endpoint_decoding import AssignmentDecoder
from trimtab.xds.large_assignment import SEATS, seat_of
from trimtab.xds.resources import cluster_resource, listener_resource, route_resource
from xds_peer import CDS, EDS, LDS, MESSAGES, RDS, service, snapshot
from xds_snapshots import snapshots

OURS = Client("me", ClientKind.TRIMTAB)
ENVOY = Client("envoy-1", ClientKind.ENVOY)
HEALTH = {
    Health.READY: health_check_pb2.HEALTHY,
    Health.DRAINING: health_check_pb2.DRAINING,
    Health.UNHEALTHY: health_check_pb2.UNHEALTHY,
}


def official(resource):
    """The official message in a resource, which must know every field in it."""
    wrapped = any_pb2.Any.FromString(resource.body)
    assert wrapped.type_url == resource.type_url
    message = MESSAGES[wrapped.type_url].FromString(wrapped.value)
    assert_all_known(message)
    return message


def assert_all_known(message):
    assert len(UnknownFieldSet(message)) == 0, message
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for one in value if field.is_repeated else [value]:
            assert_all_known(one)


def value(resource):
    return any_pb2.Any.FromString(resource.body).value


def encoded(snap, view):
    return assignment_resource(snap.cluster, snap, Fragments(view), view, salt="")


def shown(message):
    return [(group, e) for group in message.endpoints for e in group.lb_endpoints]


@given(snapshots())
def test_the_full_view_says_everything_of_each_endpoint(snap):
    message = official(encoded(snap, View.FULL))

    assert message.cluster_name == snap.cluster
    found = {}
    for group, e in shown(message):
        socket = e.endpoint.address.socket_address
        found[socket.address, socket.port_value] = (
            Locality(group.locality.region, group.locality.zone, group.locality.sub_zone),
            e.health_status,
            e.load_balancing_weight.value,
            tuple(a.address.socket_address.address for a in e.endpoint.additional_addresses),
            {
                k: v
                for k, v in e.metadata.filter_metadata["trimtab.dev"].fields.items()
                if k != "labels"
            }.keys(),
        )
    assert found == {
        e.key: (
            e.locality,
            HEALTH[e.health],
            e.weight,
            e.additional_addresses,
            {k for k, v in (("node", e.node), ("uid", e.uid)) if v}
            | ({"ready_since"} if e.ready_since is not None else set()),
        )
        for e in snap.endpoints
    }


@given(snapshots())
def test_a_snapshot_survives_the_trip_to_our_client_unchanged(snap):
    cluster = decode_cluster(value(cluster_resource(snap.cluster, snap)))
    assignment = AssignmentDecoder().decode(value(encoded(snap, View.FULL)))

    # What the Cluster itself says is no business of the policy.
    policy = snap.policy and PolicyConfig(
        snap.policy.name, tuple(p for p in snap.policy.params if p[0] not in CLUSTER_PARAMS)
    )
    assert Snapshot(snap.cluster, snap.endpoints, policy, snap.service) == Snapshot(
        cluster.name, assignment.endpoints, cluster.policy, cluster.service
    )


@given(snapshots())
def test_the_lean_view_obeys_the_rules_of_grpc_and_envoy(snap):
    message = official(encoded(snap, View.LEAN))

    places = [e.endpoint.address.socket_address for _, e in shown(message)]
    assert {(p.address, p.port_value) for p in places} == {e.key for e in snap.usable()}
    assert len(places) == len(snap.usable())
    priorities = {g.priority for g in message.endpoints}
    assert priorities == set(range(len(priorities)))
    keys = [
        (g.priority, g.locality.region, g.locality.zone, g.locality.sub_zone)
        for g in message.endpoints
    ]
    assert len(keys) == len(set(keys))
    for group in message.endpoints:
        assert group.HasField("locality")
        assert group.lb_endpoints
        weights = [e.load_balancing_weight.value for e in group.lb_endpoints]
        assert group.load_balancing_weight.value == sum(weights) >= 1
        assert min(weights) >= 1
        assert all(
            e.health_status in {health_check_pb2.UNKNOWN, health_check_pb2.HEALTHY}
            for e in group.lb_endpoints
        )
    assert sum(g.load_balancing_weight.value for g in message.endpoints) <= MAX_WEIGHT


@pytest.mark.parametrize("largest", [999_999, MAX_WEIGHT])
def test_a_ring_stays_small_however_uneven_the_weights_are(largest):
    weights = (1, 3, *[largest] * 10)
    endpoints = [Endpoint(f"10.0.0.{i}", 9, weight=w) for i, w in enumerate(weights, 1)]

    def shares(policy):
        snap = Snapshot("orders.shop:8080", tuple(endpoints), PolicyConfig.of(policy))
        (group,) = official(encoded(snap, View.LEAN)).endpoints
        sent = [e.load_balancing_weight.value for e in group.lb_endpoints]
        assert sum(sent) == group.load_balancing_weight.value <= MAX_WEIGHT
        return [weight / sum(sent) for weight in sent]

    # Envoy's ring: a point at least for the smallest of these.
    assert min(shares("random")) < 1 / 9_000_000
    assert min(shares("ring_hash")) > 1 / 66_000
    assert shares("ring_hash") == pytest.approx(shares("random"), abs=2 / 65_536)


@given(snapshots())
def test_fragments_kept_from_an_earlier_snapshot_change_nothing(snap):
    for view in View:
        fragments = Fragments(view)
        for old in (snap, Snapshot(snap.cluster, snap.endpoints[::2])):
            assignment_resource(snap.cluster, old, fragments, view, salt="")
        again = assignment_resource(snap.cluster, snap, fragments, view, salt="")
        assert again == encoded(snap, view)


def test_of_a_thousand_endpoints_only_the_changed_one_is_encoded_again():
    def endpoint(i, node=""):
        return Endpoint(f"10.0.{i // 250}.{i % 250 + 1}", 9000, node=node)

    fragments = Fragments(View.FULL)
    old = [endpoint(i) for i in range(1000)]
    before = [fragments.of(e, 1) for e in old]
    after = [fragments.of(endpoint(i, "other" if i == 7 else ""), 1) for i in range(1000)]

    assert [i for i in range(1000) if after[i] is not before[i]] == [7]


def test_fragments_of_endpoints_that_left_are_forgotten():
    fragments = Fragments(View.LEAN)
    for i in range(5000):
        one = snapshot(f"10.{i // 62500}.{i // 250 % 250}.{i % 250}")
        assignment_resource("c", one, fragments, View.LEAN, salt="")
    assert len(fragments) <= 3


def test_no_ready_endpoint_leaves_the_draining_ones_usable_for_all_clients():
    snap = snapshot(
        Endpoint("10.0.0.1", 1, health=Health.DRAINING),
        Endpoint("10.0.0.2", 1, health=Health.UNHEALTHY),
    )
    ((_, only),) = shown(official(encoded(snap, View.LEAN)))
    assert only.endpoint.address.socket_address.address == "10.0.0.1"
    assert only.health_status == health_check_pb2.UNKNOWN


# ---- Cluster ----


def policies(message):
    return [p.typed_extension_config for p in message.load_balancing_policy.policies]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (None, ["LeastRequest", "WrrLocality"]),
        (PolicyConfig("p2c"), ["TypedStruct", "LeastRequest", "WrrLocality"]),
        (PolicyConfig("mine"), ["TypedStruct", "LeastRequest", "WrrLocality"]),
        (PolicyConfig("round_robin"), ["TypedStruct", "RoundRobin", "WrrLocality"]),
        (PolicyConfig("random"), ["TypedStruct", "Random", "WrrLocality"]),
        (PolicyConfig("ring_hash"), ["TypedStruct", "RingHash", "WrrLocality"]),
        (
            PolicyConfig.of("ring_hash", hash_table="maglev"),
            ["TypedStruct", "Maglev", "RingHash", "WrrLocality"],
        ),
        (PolicyConfig("weighted_round_robin"), ["TypedStruct", "WrrLocality"]),
    ],
)
def test_each_kind_of_client_finds_a_policy_that_it_knows(policy, expected):
    message = official(cluster_resource("c", snapshot("10.0.0.1", policy=policy)))

    kinds = [p.typed_config.type_url.rpartition(".")[2] for p in policies(message)]
    assert kinds == expected
    assert all(p.name for p in policies(message)), "Envoy refuses a policy without a name"
    inner = wrr_locality_pb2.WrrLocality.FromString(policies(message)[-1].typed_config.value)
    *first, picking = inner.endpoint_picking_policy.policies
    kinds = [p.typed_extension_config.typed_config.type_url.rpartition(".")[2] for p in first]
    by_reports = policy is not None and policy.name == "weighted_round_robin"
    assert kinds == (["ClientSideWeightedRoundRobin"] if by_reports else [])
    assert picking.typed_extension_config.typed_config.type_url.endswith(".RoundRobin")
    assert message.lb_policy == cluster_pb2.Cluster.ROUND_ROBIN, "unset: gRPC refuses LEAST_REQUEST"


def test_our_own_policy_is_a_typed_struct_whose_type_url_has_a_slash():
    policy = PolicyConfig.of("p2c", choices=3, note="x", bias=True)
    message = official(cluster_resource("c", snapshot("10.0.0.1", policy=policy)))
    ours = typed_struct_pb2.TypedStruct.FromString(policies(message)[0].typed_config.value)

    assert ours.type_url == "type.googleapis.com/trimtab.v1.Policy"
    assert ours.value["policy"] == "p2c"
    assert dict(ours.value["params"]) == {"choices": 3.0, "note": "x", "bias": True}


def test_a_cluster_asks_for_its_endpoints_on_the_same_stream():
    message = official(cluster_resource("c", snapshot("10.0.0.1")))

    assert message.name == "c"
    assert message.type == cluster_pb2.Cluster.EDS
    assert message.eds_cluster_config.eds_config.HasField("ads")
    assert message.eds_cluster_config.eds_config.resource_api_version == 2
    assert message.connect_timeout.ToSeconds() > 0
    assert message.common_lb_config.HasField("healthy_panic_threshold")
    assert message.common_lb_config.healthy_panic_threshold.value == 0


@pytest.mark.parametrize(
    ("port", "http2"),
    [
        (service(port_name="grpc"), True),
        (service(port_name="grpc-web"), True),
        (service(port_name="http", app_protocol="kubernetes.io/h2c"), True),
        (service(port_name="", app_protocol="grpc"), True),
        (service(port_name="http"), False),
        (service(port_name="grpcish"), False),
        (service(port_name="grpc", app_protocol="http"), False),
    ],
)
def test_envoy_speaks_http2_to_ports_that_say_so(port, http2):
    message = official(cluster_resource("c", snapshot("10.0.0.1", of=port)))
    name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

    assert (name in message.typed_extension_protocol_options) is http2
    if http2:
        options = http_protocol_options_pb2.HttpProtocolOptions()
        assert message.typed_extension_protocol_options[name].Unpack(options)
        assert options.explicit_http_config.HasField("http2_protocol_options")


# ---- Listener, routes ----


def test_a_listener_carries_its_routes_and_ends_with_the_router():
    message = official(listener_resource("orders.shop:grpc", "orders.shop:8080"))
    connections = hcm_pb2.HttpConnectionManager()

    assert message.name == "orders.shop:grpc"
    assert not message.HasField("address")
    assert message.api_listener.api_listener.Unpack(connections)
    assert_all_known(connections)
    (host,) = connections.route_config.virtual_hosts
    (route,) = host.routes
    assert list(host.domains) == ["*"]
    assert (route.match.prefix, route.route.cluster) == ("", "orders.shop:8080")
    assert route.match.WhichOneof("path_specifier") == "prefix"
    (router,) = connections.http_filters
    assert router.typed_config.type_url.endswith(".router.v3.Router")


def test_routes_can_be_had_apart():
    message = official(route_resource("orders.shop:grpc", "orders.shop:8080"))
    assert message.name == "orders.shop:grpc"
    assert message.virtual_hosts[0].routes[0].route.cluster == "orders.shop:8080"


# ---- Catalog ----


def catalog(*snaps):
    made = Catalog()
    for snap in snaps:
        made.apply(Updated(snap))
    made.apply(Synced())
    return made


@pytest.mark.parametrize("type_url", [CDS, EDS, LDS, RDS])
def test_a_resource_is_encoded_once_for_all_clients_of_a_view(type_url):
    made = catalog(snapshot("10.0.0.1"))
    first = made.get(type_url, "orders.shop:grpc", ENVOY)

    assert made.get(type_url, "orders.shop:grpc", Client("x", ClientKind.GRPC)) is first
    assert first.name == "orders.shop:grpc"


def test_an_endpoint_change_leaves_the_other_resources_as_they_are():
    made = catalog(snapshot("10.0.0.1"))
    before = {t: made.get(t, "orders.shop", ENVOY) for t in (CDS, EDS, LDS, RDS)}
    assert made.apply(Updated(snapshot("10.0.0.2"))) == {"orders.shop:8080"}

    after = {t: made.get(t, "orders.shop", ENVOY) for t in before}
    assert [t for t in before if after[t] is not before[t]] == [EDS]


def test_equal_content_is_no_change():
    made = catalog(snapshot("10.0.0.1"))
    assert made.apply(Updated(snapshot("10.0.0.1"))) == frozenset()
    assert made.apply(Synced()) == frozenset()


@given(snapshots(), snapshots())
def test_versions_depend_on_content_only(one, other):
    first, second = catalog(one), catalog(Snapshot(one.cluster, other.endpoints), one)
    for type_url in (CDS, EDS, LDS, RDS):
        for client in (OURS, ENVOY):
            assert first.get(type_url, one.cluster, client) == second.get(
                type_url, one.cluster, client
            )


# ---- too large for one message ----


def crowd(count, health=Health.READY):
    return [
        Endpoint(f"10.{i // 62500}.{i // 250 % 250}.{i % 250}", 9000, node="n" * 150, health=health)
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def crowded():
    return catalog(snapshot(*crowd(20_000), Endpoint("9.9.9.9", 1, health=Health.UNHEALTHY)))


def chosen(made, node_id):
    found = made.get(EDS, "orders.shop", Client(node_id, ClientKind.TRIMTAB))
    assert len(found.body) <= MAX_BODY
    assert len(found.body) > 0.98 * MAX_BODY
    endpoints = AssignmentDecoder().decode(value(found)).endpoints
    assert {e.health for e in endpoints} == {Health.READY}
    return found.version, {e.key for e in endpoints}


def test_a_cluster_too_large_for_a_message_is_served_in_subsets_that_differ_by_client(crowded):
    first, mine = chosen(crowded, "client-1")
    second, yours = chosen(crowded, "client-2")

    assert chosen(crowded, "client-1") == (first, mine)
    assert first != second
    assert mine - yours
    assert yours - mine


@pytest.mark.parametrize("name", ["orders.shop.svc.corp.internal", "orders.shop.svc.x:8080"])
def test_under_a_name_with_a_domain_of_ones_own_it_is_the_same_subset(crowded, name):
    client = Client("client-1", ClientKind.TRIMTAB)
    own = crowded.get(EDS, name, client)
    usual = crowded.get(EDS, "orders.shop:8080", client)
    assert own.name == name
    assert own.version != usual.version
    mine, theirs = (AssignmentDecoder().decode(value(r)).endpoints for r in (own, usual))
    assert mine == theirs


def many_seats(made):
    """What clients of more seats and names than one message's subsets are sent."""
    clients = [Client(f"client-{n}", ClientKind.TRIMTAB) for n in range(16)]
    assert 2 * len({seat_of(client.node_id) for client in clients}) > SEATS
    for name in ("orders.shop", "orders.shop:8080"):
        for client in clients:
            assert made.get(EDS, name, client)


def test_every_subset_that_clients_have_is_encoded_once(crowded):
    many_seats(crowded)
    with Encodings(assignment_resource) as encoded:
        many_seats(crowded)
    assert encoded.count == 0


def test_beyond_a_bound_for_all_clusters_each_keeps_as_many_subsets_as_there_are_seats(
    monkeypatch,
):
    monkeypatch.setattr(cluster_views, "MOST_SUBSET_BYTES", 0)
    made = catalog(snapshot(*crowd(20_000)))
    many_seats(made)
    kept = made.kept_subsets.used / MAX_BODY
    assert 0.98 * SEATS < kept <= SEATS
    made.apply(Updated(snapshot(*crowd(19_999))))
    assert made.kept_subsets.used == 0
    assert made.get(EDS, "orders.shop", Client("client-1", ClientKind.TRIMTAB))
    assert made.kept_subsets.used > 0
    made.apply(Removed(service().cluster))
    assert made.kept_subsets.used == 0


def test_no_version_is_longer_than_it_needs_to_be():
    found = catalog(snapshot("10.0.0.1")).get(EDS, "orders.shop", ENVOY)
    assert re.fullmatch("[0-9a-f]{16}", found.version)
