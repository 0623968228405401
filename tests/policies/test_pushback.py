"""Endpoints that ask to be left alone: for how long, how much, and how many of them."""

from collections import Counter, deque
from random import Random

import pytest

from trimtab.balancer import Balancer
from trimtab.load_report import LoadReport
from trimtab.model import Endpoint, Locality, PolicyConfig, Snapshot
from trimtab.policies import Outcome
from trimtab.policies.error_bias import ErrorBias
from trimtab.policies.p2c import P2C
from trimtab.policies.pushback import KEPT, LONGEST_S, REST_S
from trimtab.policies.shares import LEAST, Shares
from trimtab.testing.policy_contract import node

LATENCY_S = 0.01


def fleet(n=10):
    nodes = [node(i) for i in range(n)]
    bias = ErrorBias(P2C(Random(1)), Shares(), Random(2))
    bias.update(nodes, 0.0)
    return nodes, bias


def push(bias, which, now=0.0, rest=60.0):
    bias.done(which, Outcome.OVERLOADED, LATENCY_S, now, LoadReport(retry_after=rest))


def held(nodes, bias, now):
    bias.pick(now)
    return [which for which in nodes if which.share < 1.0]


@pytest.mark.parametrize(("rest", "over"), [(0.5, 0.5), (5.0, 5.0), (60.0, LONGEST_S)])
def test_it_is_honoured_for_as_long_as_is_asked_and_no_longer_than_its_bound(rest, over):
    nodes, bias = fleet()
    push(bias, nodes[0], rest=rest)
    for now in (0.0, over / 2, over - 0.01):
        assert held(nodes, bias, now) == nodes[:1]
        assert nodes[0].share == LEAST
    assert held(nodes, bias, over + 0.2) == []


def test_each_further_word_counts_anew():
    nodes, bias = fleet()
    for now in (0.0, 8.0, 16.0):
        push(bias, nodes[0], now)
    assert held(nodes, bias, 16.0 + LONGEST_S - 0.1) == nodes[:1]
    assert held(nodes, bias, 16.0 + LONGEST_S + 0.2) == []


@pytest.mark.parametrize("outcome", [Outcome.SUCCESS, Outcome.ANSWERED])
def test_an_answer_to_what_began_later_ends_it_and_one_to_what_began_before_does_not(outcome):
    nodes, bias = fleet()
    push(bias, nodes[0], 5.0)
    bias.done(nodes[0], outcome, 0.5, 5.4, None)
    assert held(nodes, bias, 5.5) == nodes[:1]
    bias.done(nodes[0], Outcome.CANCELLED, 0.1, 5.8, None)
    assert held(nodes, bias, 5.9) == nodes[:1]
    bias.done(nodes[0], outcome, 0.5, 6.0, None)
    assert held(nodes, bias, 6.1) == []


@pytest.mark.parametrize(("n", "most"), [(1, 0), (2, 1), (4, 1), (10, 2), (40, 8)])
def test_at_most_a_fifth_is_held_and_the_refusals_of_others_count_in_the_bias(n, most):
    nodes, bias = fleet(n)
    asking = nodes[: n // 2] if n > 1 else nodes
    for which in asking:
        push(bias, which)
    assert [which for which in nodes if which.share == LEAST] == nodes[:most]
    bias.done(asking[-1], Outcome.OVERLOADED, LATENCY_S, 0.0, LoadReport(retry_after=9.0))
    assert n == 1 or asking[-1].share < 1.0


def test_where_most_say_so_nobody_is_held():
    nodes, bias = fleet(4)
    for which in nodes[:3]:
        push(bias, which)
    assert min(which.share for which in nodes) > 0.3  # by the bias


def test_those_whose_word_an_answer_has_ended_count_among_most():
    nodes, bias = fleet(4)
    for which in nodes[:3]:
        push(bias, which)
        bias.done(which, Outcome.SUCCESS, 0.0, 0.1, None)
    push(bias, nodes[0], 0.2)
    assert min(which.share for which in nodes) > 0.3


class Caller:
    """A client of four endpoints with so many requests in flight; ``refuses`` says whose are refused."""

    def __init__(self, policy, zones=("", "", "", ""), at_once=1, **params):
        self.now = 0.0
        self.picks = Counter()
        self.refuses = lambda _address: False
        self.under_way = deque()
        self.at_once = at_once
        self.balancer = Balancer(
            "c", clock=lambda: self.now, random=Random(1), policy=PolicyConfig.of(policy, **params),
            zone=zones[0],
        )  # fmt: skip
        self.balancer.update(
            Snapshot(
                "c",
                tuple(Endpoint(f"10.0.0.{i}", 80, Locality("r", z)) for i, z in enumerate(zones)),
            )
        )
        self.call(2_000)
        self.picks.clear()

    def call(self, times):
        for _ in range(times):
            self.now += LATENCY_S / self.at_once
            self.under_way.append(self.balancer.pick())
            if len(self.under_way) < self.at_once:
                continue
            pick = self.under_way.popleft()
            address = pick.node.endpoint.address
            self.picks[address] += 1
            if self.refuses(address):
                pick.finish(Outcome.OVERLOADED, LoadReport(retry_after=60.0))
            else:
                pick.finish(Outcome.SUCCESS)

    def seconds(self, seconds):
        self.call(int(seconds * self.at_once / LATENCY_S))


POLICIES = ["token", "p2c", "round_robin"]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("at_once", [1, 8])
def test_one_refusal_of_an_endpoint_that_is_well_is_forgotten_in_two_seconds(policy, at_once):
    caller = Caller(policy, at_once=at_once)
    once = iter([True])
    caller.refuses = lambda address: address == "10.0.0.1" and next(once, False)
    caller.seconds(2)
    caller.picks.clear()
    caller.seconds(5)
    fair = sum(caller.picks.values()) / 4
    assert caller.picks["10.0.0.1"] > 0.7 * fair


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("at_once", [1, 8])
def test_one_that_refuses_everything_rests_and_then_gets_less_than_a_tenth_of_its_part(
    policy, at_once
):
    caller = Caller(policy, at_once=at_once)
    caller.refuses = lambda address: address == "10.0.0.1"
    caller.seconds(60)
    fair = sum(caller.picks.values()) / 4
    # Beside the tenth a few begin before its first word is heard.
    assert 0 < caller.picks["10.0.0.1"] <= KEPT * fair + at_once
    assert caller.balancer.nodes["10.0.0.1", 80].share == LEAST


@pytest.mark.parametrize("policy", POLICIES)
def test_a_quota_that_one_user_has_used_up_moves_nobody_else_s_requests(policy):
    caller = Caller(policy, at_once=8)
    random = Random(3)
    caller.refuses = lambda _address: random.random() < 0.02
    caller.seconds(60)
    fair = sum(caller.picks.values()) / 4
    assert all(0.85 * fair < n < 1.15 * fair for n in caller.picks.values())


def test_in_a_strict_zone_the_tenth_of_another_zone_is_not_ours():
    caller = Caller("p2c", zones=("a", "a", "b", "b"), zone="strict")
    nodes = list(caller.balancer.nodes.values())
    caller.balancer._stack.outer.done(
        nodes[3], Outcome.OVERLOADED, 0.0, caller.now, LoadReport(retry_after=60.0)
    )
    assert nodes[3].share == LEAST
    caller.now += REST_S
    caller.seconds(8)
    assert nodes[3].picks == 0


def test_those_that_have_left_are_not_counted_among_those_who_asked():
    nodes, bias = fleet(6)
    for which in nodes[:3]:
        push(bias, which)
    bias.update(nodes[3:], 0.1)
    push(bias, nodes[3], 0.2)
    assert held(nodes[3:], bias, 0.3) == [nodes[3]]
    assert nodes[3].share == LEAST
