import pytest

from trimtab.control.explain import explain
from trimtab.model import Endpoint, Health, Locality, PolicyConfig, Snapshot
from trimtab.xds.zone_views import ServiceName


def endpoint(port, zone, health=Health.READY, priority=0):
    where = Locality("r", zone)
    return Endpoint("10.0.0.1", port, health=health, priority=priority, locality=where)


def reasons(*endpoints, zone="a", policy=None):
    why = explain(Snapshot("orders.shop:80", endpoints, policy), zone)
    return {e["address"][-1]: (e["used"], e["reason"]) for e in why["endpoints"]}


def test_each_endpoint_that_is_not_used_has_its_reason():
    found = reasons(
        endpoint(1, "a"),
        endpoint(2, "a", Health.DRAINING),
        endpoint(3, "a", Health.UNHEALTHY),
        endpoint(4, "a", priority=1),
    )
    assert found["1"] == (True, "ready, in the client's zone")
    assert [found[n][0] for n in "234"] == [False, False, False]
    assert found["2"][1].startswith("draining: it finishes")
    assert found["3"][1].startswith("not ready")
    assert found["4"][1] == "priority 1: waits until priority 0 has none to use"


def test_draining_endpoints_are_used_where_none_is_ready():
    found = reasons(endpoint(1, "a", Health.DRAINING), endpoint(2, "a", Health.UNHEALTHY))
    assert found["1"] == (True, "draining, but no endpoint is ready: better than none")
    assert found["2"][0] is False


def test_a_strict_zone_leaves_the_others_out_only_while_it_has_an_endpoint():
    strict = PolicyConfig.of("token", zone="strict")
    both = (endpoint(1, "a"), endpoint(2, "b"))
    assert reasons(*both, policy=strict)["2"] == (False, "in zone b: the policy is strict about a")
    assert all(used for used, _ in reasons(*both, policy=strict, zone="c").values())
    assert all(used for used, _ in reasons(*both).values())


@pytest.mark.parametrize(
    ("policy", "zone", "rule"),
    [
        (None, "a", "zone a is preferred"),
        (None, "", "the client's zone is unknown"),
        (None, "c", "nothing can be used in zone c"),
        (PolicyConfig.of("token", zone="off"), "a", "zones make no difference (zone: off)"),
        (PolicyConfig.of("ring_hash"), "a", "zones make no difference (policy ring_hash)"),
    ],
)
def test_the_rule_of_zones_is_said_in_words(policy, zone, rule):
    snapshot = Snapshot("orders.shop:80", (endpoint(1, "a"), endpoint(2, "b")), policy)
    assert explain(snapshot, zone)["zone_rule"].startswith(rule)


def split(zone, pods=None, policy=None):
    servers = (endpoint(1, "a"), endpoint(2, "b"), endpoint(3, "b"), endpoint(4, "c"))
    service = None if pods is None else ServiceName("front", "shop")
    why = explain(Snapshot("orders.shop:80", servers, policy), zone, service, pods or {})
    return why["split"]


def test_the_split_is_what_clients_are_sent():
    found = split("a", {"a": 2, "b": 1, "c": 1})
    assert found["trimtab"] == pytest.approx({"a": 0.5, "b": 0.5})
    assert found["others"] == pytest.approx({"a": 0.4975, "b": 0.5, "c": 0.0025})
    counts = "by capacity and the pods of front.shop (2 in a, 1 in b, 1 in c)"
    assert found["reason"] == counts


@pytest.mark.parametrize(
    ("zone", "pods", "policy", "reason"),
    [
        ("a", None, None, "by capacity: the client's Service is unknown"),
        ("", {"a": 1}, None, "by capacity: the client's zone is unknown"),
        ("c", {"a": 1}, None, "by capacity: front.shop has no ready pod in zone c"),
        ("a", {"a": 1}, PolicyConfig.of("token", zone="off"), "by capacity: zones are off"),
        ("z", {"z": 1}, PolicyConfig.of("token", zone="strict"), "by capacity: nothing can be"),
    ],
)
def test_capacity_decides_alone_for_a_reason(zone, pods, policy, reason):
    found = split(zone, pods, policy)
    assert found["reason"].startswith(reason)
    assert found["trimtab"] == found["others"] == {"a": 0.25, "b": 0.5, "c": 0.25}


def test_a_strict_split_is_the_own_zone():
    found = split("a", policy=PolicyConfig.of("token", zone="strict"))
    assert found["trimtab"] == {"a": 1.0}


def test_each_setting_says_where_it_came_from():
    policy = PolicyConfig.of("p2c", zone="strict")
    assert explain(Snapshot("orders.shop:80", (), policy), "a")["policy"] == [
        {"setting": "policy", "value": "p2c", "from": "the Service"},
        {"setting": "zone", "value": "strict", "from": "the Service"},
    ]
    (left,) = explain(Snapshot("orders.shop:80", ()), "a")["policy"]
    assert left == {"setting": "policy", "value": "token", "from": "default"}


def test_a_subset_is_named_where_a_client_keeps_to_fewer_than_all():
    policy = PolicyConfig.of("token", subset_size=1)
    both = Snapshot("orders.shop:80", (endpoint(1, "a"), endpoint(2, "a")), policy)
    assert explain(both, "a")["subset_size"] == 1
    one = Snapshot("orders.shop:80", (endpoint(1, "a"),), policy)
    assert explain(one, "a")["subset_size"] is None
