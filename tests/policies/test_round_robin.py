from collections import Counter
from random import Random

from trimtab.balancer import Node
from trimtab.model import Endpoint
from trimtab.policies.round_robin import RoundRobin


def nodes(*weights):
    return [Node(Endpoint(f"10.0.0.{i + 1}", 80, weight=w)) for i, w in enumerate(weights)]


def test_each_endpoint_gets_exactly_its_turn():
    policy, some = RoundRobin(Random(1)), nodes(1, 1, 1, 1, 1)
    policy.update(some, 0.0)
    assert set(Counter(id(policy.pick(0.0)) for _ in range(50)).values()) == {10}


def test_weighted_turns_are_exact_over_a_cycle_and_interleaved():
    policy, some = RoundRobin(Random(1)), nodes(5, 1, 1)
    policy.update(some, 0.0)
    picked = [policy.pick(0.0) for _ in range(70)]
    assert Counter(map(id, picked)) == Counter({id(some[0]): 50, id(some[1]): 10, id(some[2]): 10})
    longest = max(len(run) for run in "".join("ab"[n is some[0]] for n in picked).split("a"))
    assert longest <= 5


def test_two_clients_begin_at_different_places():
    starts = set()
    for seed in range(20):
        policy, some = RoundRobin(Random(seed)), nodes(1, 1, 1, 1)
        policy.update(some, 0.0)
        starts.add(policy.pick(0.0).endpoint.address)
    assert len(starts) > 1
