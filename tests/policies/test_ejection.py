"""Who is taken out, for how long, and when nobody is."""

from random import Random

import pytest

from trimtab.policies import Outcome
from trimtab.policies.busy import Busy
from trimtab.policies.ejection import Ejection
from trimtab.policies.random_pick import RandomPick
from trimtab.testing.policy_contract import node

GOOD, BAD = Outcome.SUCCESS, Outcome.FAILURE


def fleet(n, **options):
    nodes = [node(i) for i in range(n)]
    ejection = Ejection(RandomPick(Random(1)), **options)
    ejection.update(nodes, 0.0)
    return nodes, ejection


def fail(ejection, which, times=1, now=0.0):
    for _ in range(times):
        ejection.done(which, BAD, 0.01, now, None)


def succeed(ejection, which, times=1, now=0.0):
    for _ in range(times):
        ejection.done(which, GOOD, 0.01, now, None)


def picked(ejection, now=0.0, n=400):
    return {id(ejection.pick(now)) for _ in range(n)}


def test_five_failures_in_a_row_take_an_endpoint_out():
    nodes, ejection = fleet(10)
    fail(ejection, nodes[0], 4)
    assert ejection.ejected == frozenset()
    succeed(ejection, nodes[0])
    fail(ejection, nodes[0], 4)
    assert ejection.ejected == frozenset()
    fail(ejection, nodes[0])
    assert ejection.ejected == {nodes[0]}
    assert picked(ejection) == {id(n) for n in nodes[1:]}


def test_half_of_twenty_failed_takes_an_endpoint_out_without_a_row():
    nodes, ejection = fleet(10)
    for _ in range(9):
        fail(ejection, nodes[0])
        succeed(ejection, nodes[0])
    assert ejection.ejected == frozenset()
    fail(ejection, nodes[0], 2)
    assert ejection.ejected == {nodes[0]}


def test_the_time_out_doubles_and_one_failure_on_probation_is_enough():
    nodes, ejection = fleet(10, base_s=10.0)
    fail(ejection, nodes[0], 5, now=0.0)
    ejection.pick(9.9)
    assert ejection.ejected == {nodes[0]}
    ejection.pick(10.0)
    assert ejection.ejected == frozenset()
    fail(ejection, nodes[0], 1, now=11.0)
    assert ejection.ejected == {nodes[0]}
    ejection.pick(30.9)
    assert ejection.ejected == {nodes[0]}
    ejection.pick(31.0)
    assert ejection.ejected == frozenset()


def test_the_time_out_has_a_limit():
    nodes, ejection = fleet(10, base_s=10.0, longest_s=25.0)
    now = 0.0
    for _ in range(100):
        fail(ejection, nodes[0], 5, now=now)
        assert ejection.ejected == {nodes[0]}
        now += 25.0
        ejection.pick(now)
        assert ejection.ejected == frozenset()


def test_after_a_time_in_peace_it_takes_five_failures_again():
    nodes, ejection = fleet(10, base_s=10.0)
    fail(ejection, nodes[0], 5, now=0.0)
    ejection.pick(10.0)
    succeed(ejection, nodes[0], 1, now=60.0)
    succeed(ejection, nodes[0], 1, now=100.0)
    fail(ejection, nodes[0], 4, now=101.0)
    assert ejection.ejected == frozenset()


@pytest.mark.parametrize(("n", "most"), [(1, 0), (2, 1), (3, 1), (10, 1), (20, 2), (40, 4)])
def test_no_more_than_a_tenth_are_out_and_never_the_last(n, most):
    nodes, ejection = fleet(n)
    for which in nodes[: max(1, n // 2)]:
        fail(ejection, which, 5)
    assert len(ejection.ejected) == most
    assert ejection.pick(0.0) not in ejection.ejected


@pytest.mark.parametrize("n", [3, 10, 20])
def test_where_most_fail_nobody_is_out(n):
    nodes, ejection = fleet(n)
    for which in nodes:
        fail(ejection, which, 5)
    assert ejection.ejected == frozenset()
    assert picked(ejection) == {id(n) for n in nodes}


def test_of_two_one_may_be_the_bad_one():
    nodes, ejection = fleet(2)
    fail(ejection, nodes[0], 5)
    assert picked(ejection) == {id(nodes[1])}
    fail(ejection, nodes[1], 50)
    assert picked(ejection) == {id(nodes[1])}


@pytest.mark.parametrize("n", [2, 3])
def test_at_one_request_a_second_a_dead_endpoint_is_found(n):
    nodes, ejection = fleet(n)
    found = None
    for second in range(120):
        which = ejection.pick(float(second))
        ejection.done(which, BAD if which is nodes[0] else GOOD, 0.01, second + 0.01, None)
        if found is None and ejection.ejected:
            found = second
    assert found is not None
    assert found < 40


def test_one_endpoint_alone_is_never_ejected_at_one_request_a_second_or_at_many():
    nodes, ejection = fleet(1)
    for second in range(120):
        assert ejection.pick(float(second)) is nodes[0]
        ejection.done(nodes[0], BAD, 0.01, second + 0.01, None)
    fail(ejection, nodes[0], 100, now=121.0)
    assert ejection.ejected == frozenset()
    assert ejection.pick(122.0) is nodes[0]


@pytest.mark.parametrize("outcome", [Outcome.CANCELLED, Outcome.ANSWERED, Outcome.OVERLOADED])
def test_what_does_not_speak_against_an_endpoint_does_not_count(outcome):
    nodes, ejection = fleet(10)
    for _ in range(50):
        ejection.done(nodes[0], outcome, 0.01, 0.0, None)
    assert ejection.ejected == frozenset()


@pytest.mark.parametrize("outcome", [Outcome.TIMEOUT, Outcome.UNREACHED])
def test_timeouts_count_and_so_do_connections_that_do_not_come_about(outcome):
    nodes, ejection = fleet(10)
    for _ in range(5):
        ejection.done(nodes[0], outcome, 1.0, 0.0, None)
    assert ejection.ejected == {nodes[0]}


def test_what_left_is_forgotten_and_what_stays_is_not():
    nodes, ejection = fleet(20)
    fail(ejection, nodes[0], 5)
    fail(ejection, nodes[1], 5)
    ejection.update(nodes[1:], 1.0)
    assert ejection.ejected == {nodes[1]}
    fail(ejection, nodes[0], 5, now=1.0)  # an old request ends: it is nobody's candidate
    assert ejection.ejected == {nodes[1]}
    ejection.update(nodes, 2.0)
    assert nodes[1] in ejection.ejected


@pytest.mark.parametrize(("n", "there"), [(2, 1), (20, 3), (20, 2)])
def test_where_others_leave_those_that_were_out_come_back_before_nobody_is_left(n, there):
    nodes, ejection = fleet(n, part=0.1)
    out = nodes[: max(1, n // 10)]
    for one in out:
        fail(ejection, one, 5)
    assert ejection.ejected == set(out)
    left = nodes[:there]
    ejection.update(left, 1.0)
    assert ejection.ejected == frozenset()
    assert picked(ejection, now=1.0) == {id(one) for one in left}


def test_one_that_has_left_keeps_no_judge_busy():
    busy = Busy()
    nodes, ejection = fleet(3, busy=busy)
    fail(ejection, nodes[0])
    assert busy.now
    ejection.update(nodes[1:], 1.0)
    fail(ejection, nodes[0], now=1.0)  # an old request ends
    assert not busy.now
