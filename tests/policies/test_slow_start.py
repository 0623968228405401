"""How a new endpoint's share grows, and what holds it back."""

import math
from random import Random

import pytest

from trimtab.balancer import Node
from trimtab.policies import Outcome
from trimtab.policies.p2c import P2C
from trimtab.policies.slow_start import LONGEST, SlowStart
from trimtab.testing.policy_contract import node


def new(i, since):
    made = node(i)
    return Node(made.endpoint, since)


def fleet(old, *since, **options):
    nodes = [node(i) for i in range(old)] + [new(100 + i, s) for i, s in enumerate(since)]
    slow = SlowStart(P2C(Random(1)), Random(2), **options)
    slow.update(nodes, max(since, default=0.0))
    return nodes, slow


def share(slow, which, now, n=20_000):
    """Part of its fair share."""
    nodes = len(slow._nodes)
    return sum(slow.pick(now) is which for _ in range(n)) / n * nodes


def test_the_share_grows_from_a_tenth_to_all_in_the_window():
    nodes, slow = fleet(19, 0.0, window_s=10.0)
    seen = [share(slow, nodes[-1], now) for now in (0.0, 2.5, 5.0, 7.5, 10.0)]
    # 20,000 picks at a share of 1 are 1,000 expected, standard deviation 31: 0.15 is five of them.
    assert seen == pytest.approx([0.1, 0.325, 0.55, 0.775, 1.0], abs=0.15)
    assert slow.ramping == {}


def test_what_was_there_before_the_client_does_not_ramp():
    nodes, slow = fleet(5)
    assert all(n.since == -math.inf for n in nodes)
    assert slow.ramping == {}


def test_nothing_happens_when_all_are_new():
    _, slow = fleet(0, 0.0, 0.0, 0.0)
    assert slow.ramping == {}


def test_a_pod_that_began_long_ago_is_warm_for_a_client_that_sees_it_first_now():
    nodes = [node(0), new(1, since=-3600.0)]
    slow = SlowStart(P2C(Random(1)), Random(2))
    slow.update(nodes, 0.0)
    assert slow.ramping == {}


def test_at_most_a_fifth_ramps_and_the_furthest_are_through():
    nodes, slow = fleet(10, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, window_s=10.0)
    assert set(slow.ramping) == set(nodes[-3:])
    slow.update([*nodes, new(7, 5.5)], 5.5)
    assert nodes[10] not in slow.ramping
    assert len(slow.ramping) == 3


def test_one_new_of_three_leaves_the_old_ones_a_quarter_more_than_their_share():
    nodes, slow = fleet(2, 0.0, window_s=10.0)
    n = 10_000
    part = sum(slow.pick(0.0) is nodes[-1] for _ in range(n)) / n
    assert part == pytest.approx(0.5 / 3, abs=0.03)


def test_slow_answers_hold_the_ramp_and_it_ends_all_the_same():
    nodes, slow = fleet(9, 0.0, window_s=10.0)
    cold = nodes[-1]
    progress = {}
    for tick in range(400):
        now = tick * 0.1
        for which in (cold, nodes[0], nodes[1]):
            slow.done(which, Outcome.SUCCESS, 0.05 if which is cold else 0.01, now, None)
        slow.pick(now)
        progress[tick] = slow.ramping.get(cold)
    assert progress[100] < 0.05
    assert progress[299] is not None
    assert progress[int(LONGEST * 100) + 5] is None


def test_it_warms_up_as_soon_as_its_answers_are_quick():
    nodes, slow = fleet(9, 0.0, window_s=10.0)
    cold = nodes[-1]
    for tick in range(200):
        now = tick * 0.1
        for which in (cold, nodes[0]):
            slow.done(
                which, Outcome.SUCCESS, 0.05 if which is cold and now < 5 else 0.01, now, None
            )
        slow.pick(now)
    assert slow.ramping == {}


def test_an_endpoint_that_ramps_and_is_busy_gets_no_more():
    nodes, slow = fleet(9, 0.0, window_s=10.0)
    nodes[-1].in_flight = 1
    assert all(slow.pick(9.0) is not nodes[-1] for _ in range(500))


def test_a_blip_of_readiness_does_not_ramp_anew():
    nodes, slow = fleet(9, 0.0, window_s=10.0)
    slow.pick(10.0)
    slow.update(nodes[:-1], 11.0)
    slow.update(nodes, 12.0)
    assert slow.ramping == {}


def test_only_new_ones_left_is_no_emergency():
    nodes, slow = fleet(3, 0.0, window_s=10.0)
    slow.update(nodes[-1:], 1.0)
    assert slow.pick(1.0) is nodes[-1]
    slow.update([], 2.0)
    slow.update(nodes, 3.0)
    assert slow.pick(3.0) in nodes
