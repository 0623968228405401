"""Weights from load reports, as gRFC A58 says."""

from collections import Counter
from random import Random

import pytest

from trimtab.load_report import LoadReport
from trimtab.policies import Outcome
from trimtab.policies.turns import Turns
from trimtab.policies.weighted_round_robin import WeightedRoundRobin
from trimtab.testing.policy_contract import node


def fleet(n, **options):
    nodes = [node(i) for i in range(n)]
    made = WeightedRoundRobin(Random(1), **{"blackout_s": 0.0, **options})
    made.update(nodes, 0.0)
    return nodes, made


def report(made, which, utilization, now=0.0, rps=100.0, eps=0.0):
    said = LoadReport(application_utilization=utilization, rps=rps, eps=eps)
    made.done(which, Outcome.SUCCESS, 0.01, now, said)


def counts(made, nodes, now, n=1000):
    seen = Counter(id(made.pick(now)) for _ in range(n))
    return [seen[id(n)] for n in nodes]


def test_the_sequence_is_exactly_in_proportion():
    nodes = [node(i) for i in range(3)]
    turns = Turns(nodes, [1.0, 2.0, 5.0], Random(3))
    seen = Counter(id(turns.next()) for _ in range(8000))
    assert [seen[id(n)] for n in nodes] == pytest.approx([1000, 2000, 5000], abs=2)


def test_the_least_weight_gets_something():
    nodes = [node(0), node(1)]
    turns = Turns(nodes, [1e-12, 1.0], Random(3))
    assert any(turns.next() is nodes[0] for _ in range(70_000))


def test_half_the_utilization_is_twice_the_requests():
    nodes, made = fleet(3)
    for which, utilization in zip(nodes, [0.4, 0.8, 0.8], strict=True):
        report(made, which, utilization)
    assert counts(made, nodes, 1.0) == pytest.approx([500, 250, 250], abs=3)


def test_errors_count_against_an_endpoint():
    nodes, made = fleet(2)
    report(made, nodes[0], 0.5, eps=50.0)
    report(made, nodes[1], 0.5)
    # 100 / (0.5 + 0.5) against 100 / 0.5
    assert counts(made, nodes, 1.0) == pytest.approx([333, 667], abs=3)


def test_in_the_blackout_and_after_expiry_an_endpoint_gets_the_mean():
    nodes, made = fleet(3, blackout_s=10.0, expiry_s=60.0)
    for which in nodes:
        report(made, which, 0.1 if which is nodes[0] else 0.4)
    assert counts(made, nodes, 9.0) == pytest.approx([333, 333, 333], abs=3)
    first = counts(made, nodes, 10.0)
    assert first[0] > 1.8 * first[1]
    assert counts(made, nodes, 61.0) == pytest.approx([333, 333, 333], abs=3)


def test_a_lie_attracts_no_more_than_twice_the_mean():
    nodes, made = fleet(10)
    for which in nodes:
        report(made, which, 1e-9 if which is nodes[0] else 0.5)
    seen = counts(made, nodes, 1.0, n=10_000)
    assert seen[0] <= 2 * 1000


def test_real_differences_are_kept():
    nodes, made = fleet(5)
    for which, utilization in zip(nodes, [0.2, 0.2, 0.8, 0.8, 0.8], strict=True):
        report(made, which, utilization)
    assert counts(made, nodes, 1.0, n=1100) == pytest.approx([400, 400, 100, 100, 100], abs=4)


def test_without_reports_it_goes_by_the_endpoints_weights():
    nodes = [node(0, weight=1), node(1, weight=3)]
    made = WeightedRoundRobin(Random(1))
    made.update(nodes, 0.0)
    assert counts(made, nodes, 0.0) == pytest.approx([250, 750], abs=3)


def test_reports_of_nothing_are_none():
    nodes, made = fleet(2)
    report(made, nodes[0], 0.0)
    report(made, nodes[0], 0.5, rps=0.0)
    assert counts(made, nodes, 1.0) == pytest.approx([500, 500], abs=3)
