import pytest

from trimtab.control.explain import explain
from trimtab.model import Endpoint, Health, Locality, PolicyConfig, Snapshot


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


def test_each_setting_says_where_it_came_from():
    policy = PolicyConfig.of("p2c", zone="strict")
    assert explain(Snapshot("orders.shop:80", (), policy), "a")["policy"] == [
        {"setting": "policy", "value": "p2c", "from": "the Service's annotations"},
        {"setting": "zone", "value": "strict", "from": "the Service's annotations"},
    ]
    (left,) = explain(Snapshot("orders.shop:80", ()), "a")["policy"]
    assert left == {"setting": "policy", "value": "token", "from": "default"}


def test_a_subset_is_named_where_a_client_keeps_to_fewer_than_all():
    policy = PolicyConfig.of("token", subset_size=1)
    both = Snapshot("orders.shop:80", (endpoint(1, "a"), endpoint(2, "a")), policy)
    assert explain(both, "a")["subset_size"] == 1
    one = Snapshot("orders.shop:80", (endpoint(1, "a"),), policy)
    assert explain(one, "a")["subset_size"] is None
