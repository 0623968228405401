"""How failures cut the share of an endpoint, and how it comes back."""

from random import Random

import pytest

from trimtab.policies import Outcome
from trimtab.policies.error_bias import ErrorBias
from trimtab.policies.p2c import P2C
from trimtab.policies.shares import LEAST, Shares
from trimtab.testing.policy_contract import node

FAILED = [Outcome.FAILURE, Outcome.UNREACHED, Outcome.TIMEOUT, Outcome.OVERLOADED]


def fleet(n=10, **options):
    nodes = [node(i) for i in range(n)]
    bias = ErrorBias(P2C(Random(1)), Shares(), Random(2), **options)
    bias.update(nodes, 0.0)
    return nodes, bias


@pytest.mark.parametrize("outcome", FAILED)
def test_a_failure_cuts_the_share_by_the_eighth_power(outcome):
    nodes, bias = fleet()
    bias.done(nodes[0], outcome, 0.01, 0.0, None)
    mean = (9 + 0.9) / 10
    assert nodes[0].share == pytest.approx((0.9 / mean) ** 8)
    assert all(n.share == 1.0 for n in nodes[1:])


@pytest.mark.parametrize("outcome", [o for o in Outcome if o not in FAILED])
def test_other_ends_cut_nothing(outcome):
    nodes, bias = fleet()
    bias.done(nodes[0], outcome, 0.01, 0.0, None)
    assert nodes[0].share == 1.0


def test_what_fails_for_ever_keeps_a_small_share():
    nodes, bias = fleet()
    for i in range(1000):
        bias.done(nodes[0], Outcome.FAILURE, 0.01, i * 0.001, None)
    assert nodes[0].share == LEAST


@pytest.mark.parametrize(("failures", "least_s", "most_s"), [(1, 11.0, 12.0), (100, 17.0, 18.0)])
def test_one_request_at_a_time_leaves_an_endpoint_that_failed_alone_until_that_is_forgotten(
    failures, least_s, most_s
):
    nodes, bias = fleet()
    for _ in range(failures):
        bias.done(nodes[0], Outcome.FAILURE, 0.01, 0.0, None)
    steps = range(2000)  # of 10 ms; a round of choices takes ten of them
    chosen = [step * 0.01 for step in steps if bias.pick(step * 0.01) is nodes[0]]
    assert least_s < chosen[0] < most_s
    fair = (20.0 - chosen[0]) / 0.01 / len(nodes)
    assert len(chosen) == pytest.approx(fair, abs=2)  # each round has it once as the first of two


def test_the_share_comes_back_with_successes_and_with_time():
    nodes, bias = fleet()
    for _ in range(10):
        bias.done(nodes[0], Outcome.FAILURE, 0.01, 0.0, None)
    low = nodes[0].share
    for _ in range(20):
        bias.done(nodes[0], Outcome.SUCCESS, 0.01, 0.0, None)
    bias.pick(0.2)
    better = nodes[0].share
    assert better > 2 * low
    bias.pick(5.0)
    assert nodes[0].share > better
    bias.pick(20.0)
    assert nodes[0].share == 1.0


def test_a_fault_that_all_share_moves_no_traffic():
    nodes, bias = fleet()
    for _ in range(20):
        for which in nodes:
            bias.done(which, Outcome.FAILURE, 0.01, 0.0, None)
    assert min(n.share for n in nodes) > 0.99


def test_an_endpoint_that_fails_a_tenth_gets_less_and_one_that_does_not_gets_all():
    nodes, bias = fleet()
    random = Random(5)
    for i in range(5000):
        now = i * 0.01
        which = bias.pick(now)
        bad = which is nodes[0] and random.random() < 0.1
        bias.done(which, Outcome.FAILURE if bad else Outcome.SUCCESS, 0.01, now, None)
        which.picks += 1
    assert nodes[0].picks < 0.7 * 500
    assert min(n.picks for n in nodes[1:]) > 400
