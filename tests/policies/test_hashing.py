"""Keys go to their endpoint, move little, and don't overload it."""

from collections import Counter
from random import Random

import pytest

from trimtab.policies import Outcome
from trimtab.policies.ring_hash import RingHash
from trimtab.testing.policy_contract import node

KEYS = [f"user-{i}" for i in range(2000)]


def ring(nodes, **options):
    made = RingHash(Random(1), **options)
    made.update(nodes, 0.0)
    return made


def owners(made):
    """Where each key goes when nothing is in flight."""
    found = {}
    for key in KEYS:
        found[key] = made.pick(0.0, key)
        made.done(found[key], Outcome.SUCCESS, 0.01, 0.0, None)
    return found


def test_a_key_goes_to_one_endpoint_whoever_asks():
    nodes = [node(i) for i in range(20)]
    assert owners(ring(nodes)) == owners(ring(list(reversed(nodes))))


def test_keys_are_spread_in_proportion_to_weight():
    nodes = [node(i) for i in range(9)] + [node(9, weight=3)]
    counts = Counter(map(id, owners(ring(nodes)).values()))
    light = [counts[id(n)] / len(KEYS) for n in nodes[:9]]
    assert counts[id(nodes[9])] / len(KEYS) == pytest.approx(3 / 12, abs=0.06)
    assert max(light) < 2 / 12


def test_only_the_keys_of_an_endpoint_that_leaves_move():
    nodes = [node(i) for i in range(20)]
    before, after = owners(ring(nodes)), owners(ring(nodes[1:]))
    moved = [key for key in KEYS if before[key] is not after[key]]
    assert all(before[key] is nodes[0] for key in moved)
    assert len(moved) < 2 * len(KEYS) / 20


def test_only_the_keys_of_an_endpoint_that_joins_move_and_no_more_than_its_part():
    nodes = [node(i) for i in range(20)]
    before, after = owners(ring(nodes[1:])), owners(ring(nodes))
    moved = [key for key in KEYS if before[key] is not after[key]]
    assert all(after[key] is nodes[0] for key in moved)
    # Its part of the ring is that of 100 of 2,000 random points: a mean of 1/20 with a sd of a tenth of
    # it. The keys in there are binomial: sd sqrt(100 x 0.95) = 9.7. Four of both: 100 +- 4 x sqrt(10^2 + 9.7^2).
    assert abs(len(moved) - len(KEYS) / 20) < 4 * (10**2 + 9.7**2) ** 0.5


@pytest.mark.parametrize("weight", [1, 4])
def test_weights_move_no_keys_between_those_that_stay(weight):
    nodes = [node(i, weight=1 + 3 * (i % 2)) for i in range(20)]
    joins = node(20, weight=weight)
    before, after = owners(ring(nodes)), owners(ring([*nodes, joins]))
    moved = [key for key in KEYS if before[key] is not after[key]]
    assert moved
    assert all(after[key] is joins for key in moved)


def test_one_that_is_out_for_a_while_is_passed_by_and_keeps_its_keys():
    nodes = [node(i, weight=1 + i % 3) for i in range(20)]
    made = ring(nodes)
    whole = owners(made)
    for out in (nodes[:1], nodes[3:9]):
        left = [n for n in nodes if n not in out]
        made.update(left, 1.0)
        assert owners(made) == owners(ring(left))
        made.update(nodes, 2.0)
        assert owners(made) == whole


def test_no_ring_is_made_for_one_that_is_out_for_a_while():
    nodes = [node(i) for i in range(20)]
    made = ring(nodes)
    points = made._hashes
    made.update(nodes[1:], 1.0)
    made.update(nodes, 2.0)
    assert made._hashes is points
    made.update([*nodes, node(20)], 3.0)
    assert len(made._hashes) == len(points) + 100


def test_those_that_are_gone_for_good_are_let_go():
    nodes = [node(i) for i in range(20)]
    made = ring(nodes)
    made.update(nodes[:9], 1.0)
    assert len(made._hashes) == 900
    assert len(set(made._owners)) == 9


def test_no_endpoint_has_more_than_the_bound():
    nodes = [node(i) for i in range(10)]
    made = ring(nodes, bound=1.25)
    for i in range(1, 401):
        which = made.pick(0.0, "the same key")
        which.in_flight += 1
        assert which.in_flight <= 1.25 * i / 10 + 1
    assert sum(n.in_flight > 0 for n in nodes) == 8  # as many as the bound needs


def test_the_bound_holds_however_often_it_was_asked_for_nothing():
    nodes = [node(i) for i in range(10)]
    made = ring(nodes, bound=1.25)
    for _ in range(1000):  # a judge asks for another one, and takes that
        made.pick(0.0, "the same key")
    for i in range(1, 401):
        which = made.pick(0.0, "the same key")
        which.in_flight += 1
        assert which.in_flight <= 1.25 * i / 10 + 1


def test_the_bound_holds_however_many_requests_got_their_endpoint_without_it():
    nodes = [node(i) for i in range(10)]
    made = ring(nodes, bound=1.25)
    owner = made.pick(0.0, "a key")
    for n in nodes:
        n.in_flight = 5
    owner.in_flight = 10
    for _ in range(1000):  # new endpoints', and further attempts'
        made.done(nodes[0], Outcome.SUCCESS, 0.01, 0.0, None)
    for _ in range(len(nodes) + 1):
        made.pick(0.0, "a key")
    # The owner has 10, which is above 1.25 x (55 + 12) / 10.
    assert made.pick(0.0, "a key") is not owner


def test_an_endpoint_that_fails_takes_fewer_of_its_keys():
    nodes = [node(i) for i in range(10)]
    made = ring(nodes)
    key = KEYS[0]
    owner = made.pick(0.0, key)
    for n in nodes:
        n.in_flight = 3
    made._in_flight = 30
    assert made.pick(0.0, key) is owner
    owner.share = 0.1
    assert made.pick(0.0, key) is not owner


def test_without_a_key_it_is_power_of_two_choices():
    nodes = [node(i) for i in range(2)]
    nodes[0].in_flight = 5
    made = ring(nodes)
    assert {made.pick(0.0) for _ in range(50)} == {nodes[1]}
