"""What every policy promises. An outsider's plugin passes the same suite: import and parametrize."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from trimtab import policies
from trimtab.balancer import Node
from trimtab.model import Endpoint, PolicyConfig
from trimtab.policies import Outcome, Policy
from trimtab.policies.stack import Stack


def node(i: int, weight: int = 1) -> Node:
    return Node(Endpoint(f"10.0.{i // 250}.{i % 250 + 1}", 8080, weight=weight))


Make = Callable[[int], Policy]  # by seed


def bare(name: str) -> Make:
    return lambda seed: policies.build(PolicyConfig(name), Random(seed))


def judged(name: str) -> Make:
    """With ejection, error bias and slow start around it, as a channel has it."""
    return lambda seed: Stack(PolicyConfig(name), Random(seed)).outer


def picks_only_candidates(make: Make) -> None:
    policy, random = make(1), Random(7)
    everyone = [node(i) for i in range(20)]
    for _ in range(50):
        some = random.sample(everyone, random.randint(1, 20))
        policy.update(some, 0.0)
        for _ in range(20):
            assert policy.pick(0.0) in some


def an_empty_update_is_taken(make: Make) -> None:
    policy = make(1)
    policy.update([node(0)], 0.0)
    policy.update([], 1.0)
    policy.update([node(1)], 2.0)
    assert policy.pick(3.0)


def reaches_every_candidate(make: Make) -> None:
    policy = make(1)
    nodes = [node(i) for i in range(10)]
    policy.update(nodes, 0.0)
    assert {id(policy.pick(0.0)) for _ in range(500)} == {id(n) for n in nodes}


def is_even_over_equal_endpoints(make: Make) -> None:
    policy = make(1)
    nodes = [node(i) for i in range(8)]
    policy.update(nodes, 0.0)
    n = 20_000
    counts = dict.fromkeys(map(id, nodes), 0)
    for _ in range(n):
        counts[id(policy.pick(0.0))] += 1
    # A binomial count has sd sqrt(n p (1-p)) = 46.8 around 2,500; five of them bound all eight.
    assert max(abs(c - n / 8) for c in counts.values()) < 5 * (n / 8 * 7 / 8) ** 0.5


def respects_weights_when_idle(make: Make) -> None:
    policy = make(1)
    light, heavy = node(0, weight=1), node(1, weight=3)
    policy.update([light, heavy], 0.0)
    n = 8_000
    share = sum(policy.pick(0.0) is heavy for _ in range(n)) / n
    assert abs(share - 0.75) < 5 * (0.75 * 0.25 / n) ** 0.5


def takes_the_end_of_an_attempt_on_a_node_that_left(make: Make) -> None:
    policy = make(1)
    gone, stays = node(0), node(1)
    policy.update([gone, stays], 0.0)
    policy.update([stays], 1.0)
    for outcome in Outcome:
        policy.done(gone, outcome, 0.01, 2.0, None)
    assert policy.pick(3.0) is stays


def is_the_same_for_the_same_seed(make: Make) -> None:
    nodes = [node(i, weight=1 + i % 3) for i in range(9)]
    runs = []
    for _ in range(2):
        policy = make(42)
        policy.update(nodes, 0.0)
        runs.append([id(policy.pick(0.0)) for _ in range(200)])
    assert runs[0] == runs[1]


PROMISES = [
    picks_only_candidates,
    an_empty_update_is_taken,
    reaches_every_candidate,
    is_even_over_equal_endpoints,
    respects_weights_when_idle,
    takes_the_end_of_an_attempt_on_a_node_that_left,
    is_the_same_for_the_same_seed,
]
