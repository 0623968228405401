"""Latency in the cost, and no endpoint forgotten for good."""

from math import log
from random import Random

from trimtab.policies import Outcome
from trimtab.policies.p2c_ewma import P2CEwma
from trimtab.testing.policy_contract import node


def fleet(n, **options):
    nodes = [node(i) for i in range(n)]
    made = P2CEwma(Random(1), **{"explore": 0.0, **options})
    made.update(nodes, 0.0)
    return nodes, made


def test_the_slower_one_is_taken_only_when_the_other_is_that_much_busier():
    nodes, made = fleet(2)
    made.done(nodes[0], Outcome.SUCCESS, 0.03, 0.0, None)
    made.done(nodes[1], Outcome.SUCCESS, 0.01, 0.0, None)
    assert {made.pick(0.0) for _ in range(50)} == {nodes[1]}
    nodes[1].in_flight = 3
    assert {made.pick(0.0) for _ in range(50)} == {nodes[0]}


def test_a_peak_counts_at_once_and_goes_slowly():
    nodes, made = fleet(2, decay_s=10.0)
    made.done(nodes[0], Outcome.SUCCESS, 0.01, 0.0, None)
    made.done(nodes[0], Outcome.SUCCESS, 1.0, 0.0, None)
    assert made._ewma(nodes[0], 0.0) == 1.0
    made.done(nodes[0], Outcome.SUCCESS, 0.01, 1.0, None)
    assert 0.9 < made._ewma(nodes[0], 1.0) < 1.0


def test_an_endpoint_that_was_ten_times_slower_is_tried_again_within_the_bound():
    nodes, made = fleet(2, decay_s=10.0)
    made.done(nodes[0], Outcome.SUCCESS, 0.1, 0.0, None)
    tried = None
    for tenth in range(1000):
        now = tenth / 10
        which = made.pick(now)
        if which is nodes[0]:
            tried = now
            break
        made.done(which, Outcome.SUCCESS, 0.01, now, None)
    assert tried is not None
    assert tried <= 10.0 * log(10) + 0.2


def test_each_keeps_a_probing_share():
    nodes, made = fleet(10, explore=0.02)
    for which in nodes:
        made.done(which, Outcome.SUCCESS, 100.0 if which is nodes[0] else 0.001, 0.0, None)
    n = 50_000
    part = sum(made.pick(0.0) is nodes[0] for _ in range(n)) / n
    assert 0.001 < part < 0.004  # 0.02 / 10


def test_a_fast_failure_is_no_speed():
    nodes, made = fleet(2)
    made.done(nodes[0], Outcome.SUCCESS, 0.01, 0.0, None)
    made.done(nodes[1], Outcome.SUCCESS, 0.01, 0.0, None)
    for _ in range(100):
        made.done(nodes[0], Outcome.FAILURE, 0.00001, 0.1, None)
    assert made._ewma(nodes[0], 0.1) >= made._ewma(nodes[1], 0.1)


def test_what_is_known_outlives_an_update():
    nodes, made = fleet(3)
    made.done(nodes[0], Outcome.SUCCESS, 9.0, 0.0, None)
    made.update(nodes[:2], 0.0)
    assert made._ewma(nodes[0], 0.0) == 9.0
