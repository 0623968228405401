"""The own zone first, as long as it is not slower for it."""

from collections import Counter
from random import Random

import pytest

from trimtab.balancer import Balancer, Node
from trimtab.model import Endpoint, Locality, PolicyConfig, Snapshot
from trimtab.policies import Outcome
from trimtab.policies.p2c import P2C
from trimtab.policies.stack import Stack
from trimtab.policies.zones import GROWTH, PROBE, ROW, Zones
from trimtab.testing.policy_contract import node


def at(zone, i, weight=1):
    return Node(
        Endpoint(f"10.0.{ord(zone)}.{i + 1}", 80, locality=Locality("r", zone), weight=weight)
    )


def fleet(counts, own="a", **options):
    nodes = [at(zone, i) for zone, n in counts.items() for i in range(n)]
    random = Random(1)
    zones = Zones(lambda _: P2C(random), random, own=own, **options)
    zones.update(nodes, 0.0)
    return nodes, zones


def live(zones, latency, seconds, begin=0.0, rate=200, failing=()):
    """So many seconds of requests; ``latency`` by zone. Returns where they went."""
    seen = Counter()
    for i in range(int(seconds * rate)):
        now = begin + i / rate
        which = zones.pick(now)
        zone = which.endpoint.locality.zone
        seen[zone] += 1
        outcome = Outcome.FAILURE if zone in failing else Outcome.SUCCESS
        zones.done(which, outcome, latency[zone], now, None)
    return seen


EVEN = {"a": 4, "b": 4, "c": 4}
FLAT = {"a": 0.01, "b": 0.01, "c": 0.01}


def test_it_begins_as_if_there_were_no_zones():
    _, zones = fleet({"a": 2, "b": 4, "c": 4})
    assert zones.stay == pytest.approx(0.2)
    seen = live(zones, FLAT, 0.9, rate=5000)
    assert seen["a"] / seen.total() == pytest.approx(0.2, abs=0.03)
    assert seen["b"] == pytest.approx(seen["c"], rel=0.1)


def test_while_there_is_room_traffic_comes_home_and_a_few_requests_go_on_probing():
    _, zones = fleet(EVEN)
    live(zones, FLAT, 30.0)
    assert zones.stay == pytest.approx(1.0 - PROBE)
    seen = live(zones, FLAT, 20.0, begin=30.0)
    assert 0.0 < 1 - seen["a"] / seen.total() < 2 * PROBE


def test_it_comes_home_gently():
    _, zones = fleet(EVEN)
    before = zones.stay
    live(zones, FLAT, 5.0)
    assert before < zones.stay <= before + 5 * GROWTH


def test_a_slow_zone_is_left_but_for_a_few_probes():
    _, zones = fleet(EVEN)
    live(zones, {"a": 0.03, "b": 0.01, "c": 0.01}, 20.0)
    assert zones.stay == pytest.approx(PROBE)
    live(zones, FLAT, 40.0, begin=20.0)
    assert zones.stay == pytest.approx(1.0 - PROBE)


def test_a_far_zone_that_is_slow_gets_less_of_what_leaves():
    _, zones = fleet(EVEN)
    latency = {"a": 0.05, "b": 0.01, "c": 0.04}
    live(zones, latency, 20.0)
    seen = live(zones, latency, 10.0, begin=20.0)
    assert seen["b"] > 3 * seen["c"] > 0


def test_failures_in_a_row_empty_the_zone_at_once():
    _, zones = fleet(EVEN)
    live(zones, FLAT, 30.0)
    seen = live(zones, FLAT, 1.0, begin=30.0, failing={"a"})
    assert seen["a"] < ROW + 0.1 * seen.total()


def test_a_zone_that_loses_all_endpoints_gets_nothing_at_once_and_begins_anew_gently():
    nodes, zones = fleet(EVEN)
    live(zones, FLAT, 30.0)
    zones.update([n for n in nodes if n.endpoint.locality.zone != "a"], 30.0)
    assert live(zones, FLAT, 1.0, begin=30.0)["a"] == 0
    zones.update(nodes, 31.0)
    assert zones.stay == PROBE
    live(zones, FLAT, 40.0, begin=31.0)
    assert zones.stay == pytest.approx(1.0 - PROBE)


def test_a_far_zone_without_endpoints_gets_nothing():
    nodes, zones = fleet(EVEN)
    zones.update([n for n in nodes if n.endpoint.locality.zone != "b"], 0.0)
    assert live(zones, FLAT, 5.0)["b"] == 0


def test_strict_never_leaves_the_zone_while_it_has_an_endpoint():
    nodes, zones = fleet({"a": 1, "b": 9}, strict=True)
    assert set(live(zones, {"a": 9.0, "b": 0.01}, 5.0, failing={"a"})) == {"a"}
    zones.update(nodes[1:], 5.0)
    assert set(live(zones, FLAT, 1.0, begin=5.0)) == {"b"}


def test_a_zone_without_endpoints_of_its_own_spreads_by_capacity():
    nodes = [at("b", 0, weight=3), at("c", 0)]
    zones = Zones(lambda _: P2C(Random(1)), Random(2), own="a")
    zones.update(nodes, 0.0)
    seen = live(zones, FLAT, 0.9, rate=5000)
    assert seen["b"] / seen.total() == pytest.approx(0.75, abs=0.03)
    assert zones.stay is None


def test_one_zone_is_no_choice():
    _, zones = fleet({"a": 3})
    assert zones.stay is None
    assert live(zones, FLAT, 1.0)["a"] > 0


def test_a_few_answers_decide_nothing():
    _, zones = fleet(EVEN)
    before = zones.stay
    live(zones, {"a": 0.05, "b": 0.01, "c": 0.01}, 4.0, rate=1)
    assert zones.stay == before


@pytest.mark.parametrize(
    ("zone", "params", "zoned"),
    [
        ("a", {}, True),
        ("", {}, False),
        ("a", {"zone": "off"}, False),
        ("a", {"judges": False}, False),
    ],
)
def test_zones_are_looked_at_where_the_own_one_is_known(zone, params, zoned):
    stack = Stack(PolicyConfig.of("p2c", **params), Random(1), zone)
    assert (stack.zones is not None) is zoned


def begun(n, since):
    n.since = since
    return n


def test_a_zone_where_all_are_new_begins_with_a_part_and_has_its_whole_after_the_window():
    old = [at(zone, i) for zone in "ac" for i in range(4)]
    random = Random(1)
    zones = Zones(lambda _: P2C(random), random, own="a", window_s=10.0)
    zones.update(old, 0.0)
    for now in range(1, 40):
        zones.pick(float(now))
    fresh = [begun(at("b", i), 40.0) for i in range(2)]
    zones.update(old + fresh, 40.0)
    seen = live(zones, FLAT, 1.0, begin=40.0, rate=20_000)
    there = seen["b"] / (seen["b"] + seen["c"])
    # Two of ten, so the part at first is 0.1 (the others would bear less than a quarter more): 0.2 / 4.2 of what
    # leaves; and 0.19 x 2 a second later. Some 15,000 leave: a sd of 0.002.
    assert 0.2 / 4.2 - 0.01 < there < 0.38 / 4.38 + 0.01
    seen = live(zones, FLAT, 1.0, begin=51.0, rate=20_000)
    assert seen["b"] / (seen["b"] + seen["c"]) == pytest.approx(2 / 6, abs=0.02)


def test_the_own_zone_new_as_a_whole_is_filled_gently_and_what_was_learnt_stays():
    a, b, c = (at(zone, 0) for zone in "abc")
    random = Random(1)
    zones = Zones(lambda _: P2C(random), random, own="a", window_s=10.0)
    zones.update([a, b, c], 0.0)
    live(zones, FLAT, 30.0)
    zones.update([a, begun(at("a", 1), 30.0), b, c], 30.0)
    learnt = zones.stay
    zones.update([begun(at("a", 1), 30.0), b, c], 30.0)
    assert zones.stay == pytest.approx(learnt / 3 * 2, rel=0.01)  # half of 2/4 is left: 1/3
    seen = live(zones, FLAT, 0.5, begin=30.0, rate=20_000)
    # 0.5 at first: the other two would have to bear more than a quarter too much else.
    assert seen["a"] / seen.total() == pytest.approx(0.5 * zones.stay, abs=0.05)


def test_if_all_zones_are_new_none_is():
    nodes = [begun(at(zone, 0), 0.0) for zone in "abc"]
    random = Random(1)
    zones = Zones(lambda _: P2C(random), random, own="", window_s=10.0)
    zones.update(nodes, 0.0)
    assert [zone.grown for zone in zones._zones.values()] == [1.0, 1.0, 1.0]


def test_nodes_without_a_zone_are_a_zone():
    zones = Zones(lambda _: P2C(Random(1)), Random(2), own="a")
    zones.update([node(0), at("a", 0)], 0.0)
    assert zones.stay == 0.5


def test_it_begins_with_the_control_plane_s_split_and_the_rest_goes_where_there_is_room():
    nodes, zones = fleet(EVEN)
    zones.base = {"a": 0.5, "b": 0.4, "c": 0.1}
    zones.update(nodes, 0.0)
    assert zones.stay == 0.5
    seen = live(zones, FLAT, 0.9, rate=5000)
    assert seen["a"] / seen.total() == pytest.approx(0.5, abs=0.03)
    # A tenth of it by capacity, so that no zone is unknown.
    assert seen["b"] / (seen["b"] + seen["c"]) == pytest.approx(0.9 * 0.8 + 0.1 * 0.5, abs=0.04)


def test_a_split_that_keeps_all_at_home_leaves_a_few_probes():
    nodes, zones = fleet(EVEN)
    zones.base = {"a": 1.0}
    zones.update(nodes, 0.0)
    seen = live(zones, FLAT, 20.0)
    assert 0 < seen["b"] + seen["c"] < 2 * PROBE * seen.total()


def test_a_split_that_comes_later_than_the_first_answers_does_not_undo_what_was_learnt():
    nodes, zones = fleet(EVEN)
    live(zones, {"a": 0.03, "b": 0.01, "c": 0.01}, 20.0)
    zones.base = {"a": 1.0}
    zones.update(nodes, 20.0)
    assert zones.stay == pytest.approx(PROBE)


def test_a_zone_that_loses_half_of_its_pods_keeps_half_at_once():
    nodes, zones = fleet({"a": 8, "b": 8, "c": 8})
    live(zones, FLAT, 30.0)
    kept = zones.stay
    zones.update(
        [n for n in nodes if n.endpoint.address[-1] in "1234" or "97" not in n.endpoint.address],
        30.0,
    )
    part = 4 / 20 / (8 / 24)
    assert zones.stay == pytest.approx(kept * part)
    live(zones, FLAT, 30.0, begin=30.0)
    assert zones.stay == pytest.approx(1.0 - PROBE)


def test_a_fleet_that_shrinks_everywhere_moves_nothing():
    nodes, zones = fleet({"a": 8, "b": 8})
    live(zones, FLAT, 30.0)
    zones.update(nodes[:4] + nodes[8:12], 30.0)
    assert zones.stay == pytest.approx(1.0 - PROBE)


def test_an_outage_of_everything_leaves_no_mark():
    _, zones = fleet(EVEN)
    live(zones, FLAT, 5.0)
    live(zones, FLAT, 600.0, begin=5.0, failing={"a", "b", "c"}, rate=20)
    live(zones, FLAT, 60.0, begin=605.0)
    assert zones.stay == pytest.approx(1.0 - PROBE)


def test_a_zone_without_endpoints_follows_its_base_and_leaves_a_slow_zone():
    nodes, zones = fleet({"b": 4, "c": 4}, own="a")
    zones.base = {"b": 0.9, "c": 0.1}
    zones.update(nodes, 0.0)
    seen = live(zones, FLAT, 0.9, rate=5000)
    assert seen["b"] / seen.total() == pytest.approx(0.9 * 0.9 + 0.1 * 0.5, abs=0.03)
    slow = {"b": 0.1, "c": 0.01}
    live(zones, slow, 20.0, begin=1.0)
    seen = live(zones, slow, 10.0, begin=21.0)
    assert seen["b"] < 0.3 * seen.total()


class Client:
    """A client in zone a whose pods come and go; one request at a time, a millisecond each."""

    def __init__(self, policy, pods, **params):
        self.now = 0.0
        self.balancer = Balancer(
            "x",
            clock=lambda: self.now,
            random=Random(1),
            policy=PolicyConfig.of(policy, **params),
            zone="a",
        )
        self.see(pods)

    def see(self, pods):
        self.balancer.update(Snapshot("x", tuple(sorted(pods, key=lambda pod: pod.key))))
        for each in self.balancer.nodes.values():
            self.balancer.set_connected(each, True)

    def ask(self, seconds):
        seen = Counter()
        for _ in range(int(seconds * 500)):
            pick = self.balancer.pick()
            seen[pick.node.endpoint.locality.zone] += 1
            self.now += 0.001
            pick.finish(Outcome.SUCCESS)
            self.now += 0.001
        return seen


def pods(zone, *numbers):
    return [at(zone, i).endpoint for i in numbers]


@pytest.mark.parametrize("policy", ["token", "p2c", "round_robin"])
def test_strict_does_not_leave_the_zone_for_pods_that_are_new(policy):
    client = Client(policy, pods("a", *range(10)) + pods("b", *range(8)), zone="strict")
    assert set(client.ask(1.0)) == {"a"}
    client.see(pods("a", *range(10)) + pods("b", *range(10)))
    assert set(client.ask(11.0)) == {"a"}


@pytest.mark.parametrize("policy", ["token", "p2c", "round_robin"])
def test_strict_stays_when_the_zone_s_only_pod_is_replaced(policy):
    client = Client(policy, pods("a", 0) + pods("b", *range(8)), zone="strict")
    client.ask(1.0)
    client.see(pods("a", 1) + pods("b", *range(8)))
    assert set(client.ask(11.0)) == {"a"}


def test_a_rollout_elsewhere_draws_no_requests_out_of_the_zone():
    client = Client("p2c", pods("a", *range(10)) + pods("b", *range(10)))
    client.ask(40.0)
    before = client.ask(10.0)
    client.see(pods("a", *range(10)) + pods("b", 0, 1, *range(12, 20)))
    after = client.ask(10.0)
    # 2 % of 5,000 probe the other zone: a sd of 10.
    assert before["b"] == pytest.approx(100, abs=40)
    assert after["b"] == pytest.approx(100, abs=40)


def test_a_new_pod_of_the_own_zone_ramps_among_those_of_its_zone():
    client = Client("p2c", pods("a", *range(9)) + pods("b", *range(9)), zone="strict")
    client.ask(1.0)
    client.see(pods("a", *range(10)) + pods("b", *range(9)))
    new = next(n for n in client.balancer.nodes.values() if n.endpoint == pods("a", 9)[0])
    before = new.picks
    client.ask(1.0)
    # Of 500 its fair share is 50; a ramp from 0.1 to 0.19 gives 7.
    assert new.picks - before < 20
    client.ask(10.0)
    before = new.picks
    client.ask(4.0)
    assert new.picks - before == pytest.approx(200, abs=70)


def test_a_policy_that_changes_while_a_zone_ramps_leaves_no_judge_busy():
    stack = Stack(PolicyConfig.of("p2c"), Random(1), "a")
    nodes = [at("a", 0), at("a", 1), begun(at("a", 2), 0.0), at("b", 0)]
    stack.outer.update(nodes, 1.0)
    assert stack._busy.now
    stack = stack.follow(PolicyConfig.of("ring_hash"))
    stack.outer.update([nodes[0], nodes[3]], 1.0)
    assert not stack._busy.now


def test_a_new_pod_of_a_zone_that_strict_sends_nothing_to_keeps_no_judge_busy():
    stack = Stack(PolicyConfig.of("p2c", zone="strict"), Random(1), "a")
    far = [at("b", 0), at("b", 1), begun(at("b", 2), 0.0)]
    stack.outer.update([at("a", 0), *far], 1.0)
    assert not stack._busy.now
    stack.outer.update(far, 2.0)
    assert stack._busy.now
    assert {stack.pick(2.0).endpoint.locality.zone for _ in range(50)} == {"b"}
