"""Requests that want labels, in the balancer."""

import threading
from random import Random

import pytest

from harness.stepping import at_each_line
from trimtab import balancer as balancer_module
from trimtab.balancer import Balancer
from trimtab.errors import NoEndpoints
from trimtab.load_report import LoadReport
from trimtab.model import Endpoint, Health, PolicyConfig, Snapshot
from trimtab.policies import Outcome, names
from trimtab.testing import FakeClock

SEVEN, EIGHT = frozenset({("shard", "7")}), frozenset({("shard", "8")})


def endpoint(i, shard, *more, health=Health.READY, priority=0):
    labels = tuple(sorted([("shard", shard), *more]))
    return Endpoint(f"10.0.0.{i}", 80, labels=labels, health=health, priority=priority)


def balancer(*endpoints, clock=None, **more):
    made = Balancer("orders.shop:80", clock=clock or FakeClock(), random=Random(1), **more)
    made.update(Snapshot("orders.shop:80", endpoints))
    return made


def taken(b, labels, outcome=Outcome.SUCCESS, n=50):
    found = []
    for _ in range(n):
        pick = b.pick(labels=labels)
        found.append(pick.node.endpoint.address)
        pick.finish(outcome)
    return set(found)


@pytest.mark.parametrize("policy", names())
def test_a_request_goes_only_to_endpoints_with_its_labels_under_every_policy(policy):
    b = balancer(
        *(endpoint(i, "7" if i % 2 else "8") for i in range(8)), policy=PolicyConfig(policy)
    )
    assert taken(b, SEVEN) <= {f"10.0.0.{i}" for i in (1, 3, 5, 7)}
    assert taken(b, EIGHT) <= {f"10.0.0.{i}" for i in (0, 2, 4, 6)}
    assert b.in_flight == 0


def test_what_is_in_flight_is_the_endpoints_whoever_sent_it():
    b = balancer(endpoint(1, "7"), endpoint(2, "7"), policy=PolicyConfig("p2c"))
    held = [b.pick(labels=SEVEN) for _ in range(6)]
    assert sorted(node.in_flight for node in b.nodes.values()) == [3, 3]
    more = [b.pick() for _ in range(4)]
    assert sorted(node.in_flight for node in b.nodes.values()) == [5, 5]
    other = frozenset({("shard", "7")})  # equal, not the same
    held.append(b.pick(labels=other))
    for pick in held + more:
        pick.finish(Outcome.SUCCESS)
        pick.finish(Outcome.SUCCESS)
    assert b.in_flight == 0


def test_the_last_endpoint_of_a_shard_is_not_ejected():
    b = balancer(endpoint(1, "7"), *(endpoint(i, "8") for i in range(2, 30)))
    assert taken(b, SEVEN, Outcome.FAILURE) == {"10.0.0.1"}


def test_a_bad_endpoint_of_a_shard_is_avoided_there():
    b = balancer(*(endpoint(i, "7") for i in range(4)), endpoint(9, "8"))
    for _ in range(200):
        pick = b.pick(labels=SEVEN)
        bad = pick.node.endpoint.address == "10.0.0.0"
        pick.finish(Outcome.FAILURE if bad else Outcome.SUCCESS)
    assert b.nodes["10.0.0.0", 80].picks < 20
    assert taken(b, SEVEN) == {f"10.0.0.{i}" for i in (1, 2, 3)}


def test_a_shard_follows_connections_and_snapshots():
    b = balancer(endpoint(1, "7"), endpoint(2, "7"), endpoint(3, "8"))
    for address, connected in (("10.0.0.1", True), ("10.0.0.3", True), ("10.0.0.1", False)):
        b.set_connected(b.nodes[address, 80], connected)
    assert taken(b, SEVEN) == {"10.0.0.1", "10.0.0.2"}  # neither is: either may be tried
    assert b.reaches(SEVEN) == (True, False)
    b.set_connected(b.nodes["10.0.0.2", 80], True)
    assert taken(b, SEVEN) == {"10.0.0.2"}
    assert b.reaches(SEVEN) == (True, True)
    b.update(Snapshot("orders.shop:80", (endpoint(2, "8"), endpoint(3, "7"))))
    assert taken(b, SEVEN) == {"10.0.0.3"}


def test_a_shard_that_is_draining_as_a_whole_still_serves():
    b = balancer(endpoint(1, "7"), endpoint(2, "8"))
    b.set_connected(b.nodes["10.0.0.1", 80], True)
    b.update(
        Snapshot("orders.shop:80", (endpoint(1, "7", health=Health.DRAINING), endpoint(2, "8")))
    )
    assert taken(b, SEVEN) == {"10.0.0.1"}
    b.set_connected(b.nodes["10.0.0.1", 80], False)  # nobody connects to it any more
    with pytest.raises(NoEndpoints, match=r"none of 1 endpoints with the labels shard=7 is ready"):
        b.pick(labels=SEVEN)


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({("shard", "9")}, "has the labels shard=9; known values of shard: 7, 8$"),
        ({("model", "x")}, r"has the labels model=x; known labels: shard, tier \("),
        ({("shard", "8"), ("tier", "a")}, "has the labels shard=8, tier=a together$"),
    ],
)
def test_labels_that_no_endpoint_has_are_named_with_what_there_is(wanted, reason):
    b = balancer(endpoint(1, "7", ("tier", "a")), endpoint(2, "8"))
    with pytest.raises(NoEndpoints, match=f"orders.shop:80: none of 2 endpoints {reason}"):
        b.pick(labels=frozenset(wanted))
    assert b.reaches(frozenset(wanted)) == (False, False)


def test_a_channels_labels_and_a_requests_hold_together():
    b = balancer(
        endpoint(1, "7", ("tier", "a")), endpoint(2, "7", ("tier", "b")), labels={"tier": "b"}
    )
    assert taken(b, SEVEN) == {"10.0.0.2"}


def test_a_change_of_policy_reaches_the_shards_and_keeps_what_the_judges_know():
    before, after = (PolicyConfig.of(name, error_bias=0) for name in ("p2c", "round_robin"))
    endpoints = [endpoint(i, "7") for i in range(4)]
    b = balancer()
    b.update(Snapshot("orders.shop:80", endpoints, policy=before))
    for _ in range(400):
        pick = b.pick(labels=SEVEN)
        bad = pick.node.endpoint.address == "10.0.0.0"
        pick.finish(Outcome.FAILURE if bad else Outcome.SUCCESS)
    assert "10.0.0.0" not in taken(b, SEVEN)
    b.update(Snapshot("orders.shop:80", endpoints, policy=after))
    order = [b.pick(labels=SEVEN).node.endpoint.address for _ in range(6)]
    assert order[:3] == order[3:]
    assert set(order) == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}


def test_the_number_of_sets_of_labels_is_bounded():
    many = tuple((f"l{i}", "x") for i in range(11))
    b = balancer(Endpoint("10.0.0.1", 80, labels=many))
    held = [
        b.pick(labels=frozenset(pair for bit, pair in enumerate(many) if n >> bit & 1))
        for n in range(1, 2000)
    ]
    assert len(b._selections) == 1024
    for pick in held:
        pick.finish(Outcome.SUCCESS)
    assert b.in_flight == 0


def test_probes_are_wanted_of_the_shard_and_answers_reach_it():
    endpoints = [endpoint(i, "7" if i < 4 else "8") for i in range(8)]
    b = balancer(*endpoints, policy=PolicyConfig("prequal"))
    slow = b.nodes["10.0.0.0", 80]
    for _ in range(40):
        pick = b.pick(labels=SEVEN)
        wanted = b.take_probes()
        assert len(wanted) == 3
        assert {("shard", "7")} == {pair for node in wanted for pair in node.endpoint.labels}
        for node in wanted:
            b.probed(node, LoadReport(in_flight=0, latency=1.0 if node is slow else 0.01))
        pick.finish(Outcome.SUCCESS)
    assert b.take_probes() == []
    assert slow.picks < 5


def test_a_channel_that_asks_who_has_labels_while_another_thread_takes_an_update_is_told():
    endpoints = (endpoint(1, "7"), endpoint(2, "8"))
    b = balancer(*endpoints, lock=threading.RLock())
    updates = []

    def update():
        another = threading.Thread(target=b.update, args=[Snapshot("orders.shop:80", endpoints)])
        updates.append(another)
        another.start()
        another.join(0.05)  # it may have to wait for who asks

    with at_each_line(update, balancer_module) as interrupted:
        found = b.having(SEVEN)
    for another in updates:
        another.join()
    assert interrupted.count("having") > 3
    assert [node.endpoint.address for node in found] == ["10.0.0.1"]
