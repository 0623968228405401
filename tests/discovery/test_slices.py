"""Slices of a Service become its clusters."""

import pytest

from kube import Folded, endpoint, endpoint_slice, service
from trimtab.model import Health, Locality, PolicyConfig, Removed, Snapshot, Updated

READY, DRAINING, UNHEALTHY = Health.READY, Health.DRAINING, Health.UNHEALTHY


def only(folded, cluster="orders.shop:8080"):
    (found,) = folded.clusters[cluster].endpoints
    return found


# All 27 combinations, written out: (ready, serving, terminating) -> state.
CONDITIONS = [
    *(((r, s, t), READY) for r in (None, True) for s in (None, True, False) for t in (None, False)),
    *(((False, s, t), UNHEALTHY) for s in (None, True, False) for t in (None, False)),
    *(((r, s, True), DRAINING) for r in (None, True, False) for s in (None, True)),
    *(((r, False, True), UNHEALTHY) for r in (None, True, False)),
]


@pytest.mark.parametrize(("conditions", "state"), CONDITIONS)
def test_conditions_mean_what_the_api_says_with_nil_for_its_default(conditions, state):
    named = dict(zip(("ready", "serving", "terminating"), conditions, strict=True))
    folded = Folded(service(), endpoint_slice("a", endpoint("10.0.0.1", **named)))
    assert only(folded).health is state
    absent = {name: value for name, value in named.items() if value is not None}
    assert only(folded.add(endpoint_slice("a", endpoint("10.0.0.1", **absent)))).health is state


def test_the_table_of_conditions_is_complete():
    assert len(dict(CONDITIONS)) == len(CONDITIONS) == 27


@pytest.mark.parametrize(
    ("conditions", "state"),
    [
        ({"ready": False}, READY),
        ({"ready": False, "serving": False}, READY),
        ({"ready": True, "terminating": True}, DRAINING),
        ({"ready": False, "serving": False, "terminating": True}, DRAINING),
    ],
)
def test_publish_not_ready_addresses_overrules_readiness_but_not_termination(conditions, state):
    folded = Folded(
        service(publishNotReadyAddresses=True),
        endpoint_slice("a", endpoint("10.0.0.1", **conditions)),
    )
    assert only(folded).health is state


def test_switching_publish_not_ready_addresses_changes_what_is_there():
    folded = Folded(service(), endpoint_slice("a", endpoint("10.0.0.1", ready=False)))
    assert folded.ready() == []
    folded.add(service(publishNotReadyAddresses=True))
    assert folded.ready() == ["10.0.0.1:50051"]
    assert folded.add(service()).ready() == []


def test_all_slices_of_a_service_are_joined():
    folded = Folded(
        service(), endpoint_slice("a", "10.0.0.1"), endpoint_slice("b", "10.0.0.2", "10.0.0.3")
    )
    assert folded.ready() == ["10.0.0.1:50051", "10.0.0.2:50051", "10.0.0.3:50051"]


def test_zone_node_and_pod_come_along():
    at = endpoint("10.0.0.1", uid="u1", zone="eu-1a", node="n7")
    found = only(Folded(service(), endpoint_slice("a", at)))
    assert (found.locality, found.node, found.uid) == (Locality(zone="eu-1a"), "n7", "u1")
    assert only(Folded(service(), endpoint_slice("a", "10.0.0.1"))).locality == Locality()


@pytest.mark.parametrize("order", [1, -1])
def test_of_an_endpoint_in_two_slices_the_ready_one_counts_even_if_older(order):
    slices = [
        endpoint_slice("a", endpoint("10.0.0.1", ready=True), stamp="2026-01-01T00:00:00Z"),
        endpoint_slice("b", endpoint("10.0.0.1", ready=False), stamp="2026-01-02T00:00:00Z"),
    ]
    assert Folded(service(), *slices[::order]).ready() == ["10.0.0.1:50051"]


@pytest.mark.parametrize("order", [1, -1])
def test_of_an_endpoint_in_two_slices_the_draining_one_beats_the_unhealthy_one(order):
    slices = [
        endpoint_slice("a", endpoint("10.0.0.1", ready=False, serving=True, terminating=True)),
        endpoint_slice("b", endpoint("10.0.0.1", ready=False)),
    ]
    assert only(Folded(service(), *slices[::order])).health is DRAINING


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z"),
        ("2026-01-01T00:00:00.123456789Z", "2026-01-01T00:00:01Z"),
        ("2026-01-01T02:30:00+02:00", "2026-01-01T01:00:00Z"),
        ("no time at all", "2026-01-01T00:00:00Z"),
        (None, "2026-01-01T00:00:00Z"),
    ],
)
def test_of_an_endpoint_in_two_slices_the_newest_counts(older, newer, order):
    slices = [
        endpoint_slice("b", endpoint("10.0.0.1", uid="old"), stamp=older),
        endpoint_slice("a", endpoint("10.0.0.1", uid="new"), stamp=newer),
    ]
    assert only(Folded(service(), *slices[::order])).uid == "new"


def test_without_a_change_time_the_creation_time_counts():
    first, second = (
        endpoint_slice("b", endpoint("10.0.0.1", uid="old")),
        endpoint_slice("a", endpoint("10.0.0.1", uid="new")),
    )
    first["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    second["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"
    assert only(Folded(service(), first, second)).uid == "new"


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_equal_claims_the_same_one_counts_in_any_order(order):
    slices = [endpoint_slice(n, endpoint("10.0.0.1", uid=n)) for n in ("a", "b")]
    assert only(Folded(service(), *slices[::order])).uid == "b"


def test_an_endpoint_that_moves_between_slices_is_never_absent():
    folded = Folded(service(), endpoint_slice("a", "10.0.0.1"), endpoint_slice("b"))
    for step in (endpoint_slice("b", "10.0.0.1"), endpoint_slice("a")):
        folded.add(step)
        assert folded.ready() == ["10.0.0.1:50051"]


@pytest.mark.parametrize("order", [1, -1])
def test_of_an_endpoint_twice_in_one_slice_the_ready_one_counts(order):
    twice = [endpoint("10.0.0.1", ready=True), endpoint("10.0.0.1", ready=False)][::order]
    assert Folded(service(), endpoint_slice("a", *twice)).ready() == ["10.0.0.1:50051"]


def test_an_endpoint_that_stays_in_one_of_two_slices_stays():
    folded = Folded(service(), endpoint_slice("a", "10.0.0.1"), endpoint_slice("b", "10.0.0.1"))
    assert folded.delete(endpoint_slice("b")).ready() == ["10.0.0.1:50051"]
    assert folded.delete(endpoint_slice("a")).ready() == []


def test_a_port_is_matched_by_its_name_and_its_number_is_the_slices_own():
    folded = Folded(
        service(ports=[("grpc", 80), ("admin", 81)]),
        endpoint_slice("a", "10.0.0.1", ports=[("admin", 9001), ("grpc", 9000)]),
        endpoint_slice("b", "10.0.0.2", ports=[("grpc", 9100)]),
    )
    assert folded.ready("orders.shop:80") == ["10.0.0.1:9000", "10.0.0.2:9100"]
    assert folded.ready("orders.shop:81") == ["10.0.0.1:9001"]


@pytest.mark.parametrize("name", [None, ""])
@pytest.mark.parametrize("in_slice", [None, ""])
def test_an_unnamed_port_matches_an_unnamed_port(name, in_slice):
    folded = Folded(
        service(ports=[{"name": name, "port": 80}]),
        endpoint_slice("a", "10.0.0.1", ports=[{"name": in_slice, "port": 9000}]),
    )
    assert folded.ready("orders.shop:80") == ["10.0.0.1:9000"]


def test_a_port_that_means_all_ports_is_refused_with_a_reason():
    folded = Folded(service(), endpoint_slice("a", "10.0.0.1", ports=[{"name": "grpc"}]))
    assert folded.targets() == []
    assert [p.field for p in folded.problems] == ["ports[0].port"]


def test_slices_without_ports_add_nothing():
    assert Folded(service(), endpoint_slice("a", "10.0.0.1", ports=())).targets() == []
    assert Folded(service(), endpoint_slice("a", "10.0.0.1") | {"ports": None}).targets() == []


def test_only_tcp_ports_become_clusters():
    folded = Folded(
        service(
            ports=[
                {"name": "dns", "port": 53, "protocol": "UDP"},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
                {"name": "sig", "port": 54, "protocol": "SCTP"},
                {"name": "plain", "port": 55},
            ]
        ),
        endpoint_slice(
            "a",
            "10.0.0.1",
            ports=[{"name": "dns", "port": 5353, "protocol": "UDP"}, ("dns-tcp", 5354)],
        ),
    )
    assert sorted(folded.clusters) == ["orders.shop:53", "orders.shop:55"]
    assert folded.ready("orders.shop:53") == ["10.0.0.1:5354"]


def test_a_slice_port_of_another_protocol_does_not_stand_for_the_tcp_port_of_its_name():
    udp = {"name": "grpc", "port": 53, "protocol": "UDP"}
    for ports in ([udp, ("grpc", 9000)], [("grpc", 9000), udp]):
        folded = Folded(service(), endpoint_slice("a", "10.0.0.1", ports=ports))
        assert folded.ready() == ["10.0.0.1:9000"]
        assert folded.problems == []
    assert Folded(service(), endpoint_slice("a", "10.0.0.1", ports=[udp])).targets() == []


def test_the_cluster_carries_its_service_port():
    found = Folded(
        service(ports=[{"name": "grpc", "port": 80, "appProtocol": "kubernetes.io/h2c"}])
    ).clusters["orders.shop:80"]
    assert (found.service.service, found.service.namespace, found.service.port) == (
        "orders",
        "shop",
        80,
    )
    assert (found.service.port_name, found.service.app_protocol) == ("grpc", "kubernetes.io/h2c")


def test_a_port_that_goes_removes_its_cluster_only():
    folded = Folded(service(ports=[("grpc", 80), ("admin", 81)]), endpoint_slice("a", "10.0.0.1"))
    folded.add(service(ports=[("grpc", 80)]))
    assert folded.events == [Removed("orders.shop:81")]


def test_a_renamed_port_takes_other_endpoints():
    folded = Folded(
        service(), endpoint_slice("a", "10.0.0.1", ports=[("grpc", 9000), ("new", 9001)])
    )
    folded.add(service(ports=[("new", 8080)]))
    assert folded.ready() == ["10.0.0.1:9001"]


def test_a_service_without_slices_is_known_to_be_empty():
    folded = Folded(service())
    assert folded.clusters["orders.shop:8080"].endpoints == ()


def test_a_slice_without_its_service_yields_nothing_until_that_comes():
    folded = Folded(endpoint_slice("a", "10.0.0.1"))
    assert folded.clusters == {}
    assert folded.add(service()).ready() == ["10.0.0.1:50051"]


def test_a_service_that_is_not_there_yields_nothing_when_deleted():
    folded = Folded()
    assert folded.delete(service()).events == []
    assert folded.delete(endpoint_slice("a")).events == []


@pytest.mark.parametrize("service_first", [True, False])
def test_deletions_leave_no_cluster_in_any_order(service_first):
    folded = Folded(service(), endpoint_slice("a", "10.0.0.1"))
    gone = [service(), endpoint_slice("a")]
    for document in gone if service_first else gone[::-1]:
        folded.delete(document)
    assert folded.clusters == {}
    assert folded.add(service()).targets() == []


def test_slices_survive_a_service_that_is_deleted_and_made_again():
    folded = Folded(service(), endpoint_slice("a", "10.0.0.1")).delete(service())
    assert folded.clusters == {}
    assert folded.add(service()).ready() == ["10.0.0.1:50051"]


def test_a_label_changed_in_place_moves_the_slice_in_one_step():
    folded = Folded(
        service(), service("carts", ports=[("grpc", 1)]), endpoint_slice("a", "10.0.0.1")
    )
    folded.add(endpoint_slice("a", "10.0.0.1", of="carts"))
    assert len(folded.events) == 2
    assert (folded.targets(), folded.ready("carts.shop:1")) == ([], ["10.0.0.1:50051"])


def test_a_slice_without_the_label_belongs_to_nobody():
    folded = Folded(service(), endpoint_slice("a", "10.0.0.1"))
    assert folded.add(endpoint_slice("a", "10.0.0.1", of=None)).targets() == []
    assert folded.problems == []


def test_a_slice_of_a_namesake_in_another_namespace_is_not_joined():
    folded = Folded(service(), endpoint_slice("a", "10.0.0.1", namespace="other"))
    assert folded.targets() == []


def test_headless_mirrored_and_custom_slices_count_like_any_other():
    headless = service(clusterIP="None")
    slices = [endpoint_slice("mirrored", "10.0.0.1"), endpoint_slice("custom", "10.0.0.2")]
    for one, by in zip(slices, ("endpointslicemirroring-controller.k8s.io", "staff"), strict=True):
        one["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] = by
    assert Folded(headless, *slices).ready() == ["10.0.0.1:50051", "10.0.0.2:50051"]


def test_a_service_without_ports_has_no_clusters():
    assert Folded(service(ports=()), endpoint_slice("a", "10.0.0.1")).clusters == {}
    assert Folded(service() | {"spec": None}).clusters == {}


def test_an_external_name_service_is_refused_with_a_reason():
    folded = Folded(service(type="ExternalName", externalName="example.com"))
    assert folded.clusters == {}
    (problem,) = folded.problems
    assert problem.where == "Service shop/orders"
    assert problem.field == "spec.type"


def test_a_service_that_becomes_an_external_name_loses_its_clusters():
    folded = Folded(service(), endpoint_slice("a", "10.0.0.1"))
    folded.add(service(type="ExternalName"))
    assert folded.clusters == {}


@pytest.mark.parametrize("kind", ["FQDN", "Carrier", None])
def test_slices_of_names_and_of_unknown_families_are_refused_with_a_reason(kind):
    folded = Folded(service(), endpoint_slice("a", "example.com", addressType=kind))
    assert folded.targets() == []
    assert [p.field for p in folded.problems] == ["addressType"]


def test_a_slice_that_becomes_one_of_names_loses_its_endpoints():
    folded = Folded(service(), endpoint_slice("a", "10.0.0.1"))
    assert folded.add(endpoint_slice("a", "10.0.0.1", addressType="FQDN")).targets() == []


def test_a_bad_address_costs_its_own_endpoint_only():
    folded = Folded(service(), endpoint_slice("a", "10.0.0.1", "10.0.0.999", "10.0.0.3"))
    assert folded.ready() == ["10.0.0.1:50051", "10.0.0.3:50051"]
    (problem,) = folded.problems
    assert (problem.where, problem.field, problem.value) == (
        "EndpointSlice shop/a",
        "endpoints[1].addresses[0]",
        "'10.0.0.999'",
    )


@pytest.mark.parametrize("addresses", [None, []])
def test_an_endpoint_without_an_address_is_refused(addresses):
    folded = Folded(service(), endpoint_slice("a", {"addresses": addresses}, "10.0.0.2"))
    assert folded.ready() == ["10.0.0.2:50051"]
    assert [p.field for p in folded.problems] == ["endpoints[0].addresses"]


def test_of_several_addresses_the_first_is_used_and_that_is_said():
    folded = Folded(service(), endpoint_slice("a", {"addresses": ["10.0.0.1", "10.0.0.2"]}))
    assert folded.ready() == ["10.0.0.1:50051"]
    assert "only the first is used" in folded.problems[0].fix


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_out_of_range_is_refused_at_both_ends(port):
    folded = Folded(
        service(ports=[("grpc", port), ("good", 80)]),
        endpoint_slice("a", "10.0.0.1", ports=[("grpc", 1), ("good", port)]),
    )
    assert list(folded.clusters) == ["orders.shop:80"]
    assert [p.field for p in folded.problems] == ["spec.ports[0].port", "ports[1].port"]


def test_a_port_that_stands_twice_is_used_once():
    folded = Folded(
        service(ports=[("a", 80), ("b", 80)]),
        endpoint_slice("a", "10.0.0.1", ports=[("a", 1), ("a", 2)]),
    )
    assert folded.ready("orders.shop:80") == ["10.0.0.1:1"]
    assert [p.field for p in folded.problems] == ["spec.ports[1].port", "ports[1].name"]


def test_the_policy_comes_from_the_annotation():
    folded = Folded(service(annotations={"trimtab.dev/policy": "round_robin"}))
    assert folded.clusters["orders.shop:8080"].policy == PolicyConfig("round_robin")
    folded.add(service())
    assert folded.clusters["orders.shop:8080"].policy is None


@pytest.mark.parametrize("value", ["fastest", "", None])
def test_a_bad_policy_leaves_the_default_and_everything_else(value):
    folded = Folded(
        service(annotations={"trimtab.dev/policy": value}), endpoint_slice("a", "10.0.0.1")
    )
    assert folded.clusters["orders.shop:8080"].policy is None
    assert folded.ready() == ["10.0.0.1:50051"]
    (problem,) = folded.problems
    assert problem.field == "metadata.annotations[trimtab.dev/policy]"
    assert "p2c" in problem.fix


@pytest.mark.parametrize(
    ("annotation", "value", "param"),
    [
        ("slow-start", "30s", ("slow_start_s", 30.0)),
        ("slow-start", "1.5m", ("slow_start_s", 90.0)),
        ("slow-start", "500ms", ("slow_start_s", 0.5)),
        ("slow-start", "0", ("slow_start_s", 0.0)),
        ("zone", "strict", ("zone", "strict")),
        ("subset-size", "20", ("subset_size", 20.0)),
        ("outlier-detection", "off", ("eject", False)),
        ("outlier-detection", "on", ("eject", True)),
        ("max-requests", "200", ("max_requests", 200.0)),
    ],
)
def test_judges_are_asked_for_by_annotations(annotation, value, param):
    folded = Folded(service(annotations={f"trimtab.dev/{annotation}": value}))
    assert folded.clusters["orders.shop:8080"].policy.params == (param,)
    assert folded.problems == []


@pytest.mark.parametrize("asked", ["PreferClose", "PreferSameZone", "PreferSameNode"])
def test_a_traffic_distribution_asks_to_prefer_the_zone_unless_an_annotation_says_otherwise(asked):
    def params(**annotations):
        folded = Folded(
            service(
                annotations={f"trimtab.dev/{k}": v for k, v in annotations.items()},
                trafficDistribution=asked,
            )
        )
        assert folded.problems == []
        return folded.clusters["orders.shop:8080"].policy

    assert params() == PolicyConfig.of("token", zone="prefer")
    assert params(policy="p2c") == PolicyConfig.of("p2c", zone="prefer")
    assert params(zone="off") == PolicyConfig.of("token", zone="off")
    assert params(zone="strict") == PolicyConfig.of("token", zone="strict")
    assert params(disable="on") == PolicyConfig.of("round_robin", disable=True)


def test_an_unknown_traffic_distribution_is_ignored_with_a_problem():
    folded = Folded(service(trafficDistribution="PreferWarm"), endpoint_slice("a", "10.0.0.1"))
    assert folded.clusters["orders.shop:8080"].policy is None
    assert folded.ready() == ["10.0.0.1:50051"]
    (problem,) = folded.problems
    assert (problem.where, problem.field) == ("Service shop/orders", "spec.trafficDistribution")
    assert "PreferWarm" in problem.value
    assert "PreferSameZone" in problem.fix
    for nothing in (None, ""):
        folded = Folded(service(trafficDistribution=nothing))
        assert (folded.problems, folded.clusters["orders.shop:8080"].policy) == ([], None)


def test_a_service_that_switches_balancing_off_asks_for_nothing_else():
    annotations = {"trimtab.dev/policy": "token", "trimtab.dev/zone": "strict"}
    folded = Folded(service(annotations=annotations | {"trimtab.dev/disable": "on"}))
    assert folded.clusters["orders.shop:8080"].policy == PolicyConfig.of(
        "round_robin", disable=True
    )
    folded = Folded(service(annotations=annotations | {"trimtab.dev/disable": "off"}))
    assert folded.clusters["orders.shop:8080"].policy == PolicyConfig.of("token", zone="strict")
    folded = Folded(service(annotations={"trimtab.dev/disable": "true"}))
    assert folded.clusters["orders.shop:8080"].policy is None
    assert "choose one of on, off; balancing stays on" in folded.problems[0].fix


def test_a_hash_key_and_a_hash_table_belong_to_ring_hash():
    annotations = {"trimtab.dev/policy": "ring_hash", "trimtab.dev/hash-table": "maglev"}
    folded = Folded(service(annotations=annotations))
    assert folded.clusters["orders.shop:8080"].policy == PolicyConfig.of(
        "ring_hash", hash_table="maglev"
    )
    annotations = {"trimtab.dev/policy": "ring_hash", "trimtab.dev/hash-key": "x-user"}
    folded = Folded(service(annotations=annotations))
    assert folded.clusters["orders.shop:8080"].policy == PolicyConfig.of(
        "ring_hash", hash_key="x-user"
    )
    folded = Folded(service(annotations=annotations | {"trimtab.dev/hash-key": "X User"}))
    assert folded.clusters["orders.shop:8080"].policy == PolicyConfig("ring_hash")
    assert len(folded.problems) == 1


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ("slow-start", "soon"),
        ("slow-start", "-1s"),
        ("slow-start", "2h"),
        ("slow-start", "61m"),
        ("slow-start", "30"),
        ("zone", "near"),
        ("zone", ""),
        ("hash-key", "x-user"),  # beside round_robin
        ("hash-table", "maglev"),  # beside round_robin
        ("outlier-detection", "yes"),
        ("max-requests", "0"),
        ("max-requests", "4294967296"),
        ("max-requests", "1e3"),
        ("subset-size", "0"),
        ("subset-size", "1.5"),
        ("subset-size", "many"),
    ],
)
def test_a_bad_judge_leaves_the_default_and_the_policy(annotation, value):
    annotations = {f"trimtab.dev/{annotation}": value, "trimtab.dev/policy": "round_robin"}
    folded = Folded(service(annotations=annotations), endpoint_slice("a", "10.0.0.1"))
    assert folded.clusters["orders.shop:8080"].policy == PolicyConfig("round_robin")
    (problem,) = folded.problems
    assert problem.field == f"metadata.annotations[trimtab.dev/{annotation}]"


def test_nothing_follows_from_what_changes_nothing():
    folded = Folded(service(), endpoint_slice("a", "10.0.0.1"))
    for same in (
        service(annotations={"team": "blue"}),
        endpoint_slice("a", "10.0.0.1", stamp="2026-01-01T00:00:00Z"),
        endpoint_slice("b", "10.0.0.1"),
        endpoint_slice("c", "10.0.0.9", ports=[("other", 1)]),
    ):
        assert folded.add(same).events == []


def test_a_snapshot_of_the_fold_equals_one_that_was_checked_and_sorted():
    folded = Folded(
        service(),
        endpoint_slice("a", "10.0.0.9", "10.0.0.10"),
        endpoint_slice("b", "10.0.0.1", ports=[("grpc", 7)]),
    )
    found = folded.clusters["orders.shop:8080"]
    checked = Snapshot(found.cluster, found.endpoints[::-1], found.policy, found.service)
    assert found == checked
    assert found.version == checked.version


def test_a_slice_without_its_service_is_a_loose_end():
    folded = Folded(endpoint_slice("a", "10.0.0.1"))
    (problem,) = folded.fold.loose_ends()
    assert (problem.where, problem.value) == ("EndpointSlice shop/a", "'orders'")
    assert "no Service shop/orders" in problem.fix
    folded.add(service())
    assert list(folded.fold.loose_ends()) == []


def test_a_slice_port_that_no_service_port_has_is_a_loose_end():
    folded = Folded(service(), endpoint_slice("a", "10.0.0.1", ports=[("http", 1), ("grpc", 2)]))
    (problem,) = folded.fold.loose_ends()
    assert (problem.field, problem.value) == ("ports", "'http'")
    assert "'grpc'" in problem.fix


def test_the_fold_knows_its_clusters():
    folded = Folded(service(), endpoint_slice("a", "10.0.0.1"))
    assert list(folded.fold.clusters()) == list(folded.clusters.values())
    assert folded.fold.synced is False
    folded.fold.sync()
    assert folded.fold.synced is True


def test_an_update_carries_the_whole_state():
    folded = Folded(service(), endpoint_slice("a", "10.0.0.1"))
    folded.add(endpoint_slice("b", "10.0.0.2"))
    (event,) = folded.events
    assert isinstance(event, Updated)
    assert len(event.snapshot.endpoints) == 2
