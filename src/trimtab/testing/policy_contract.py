"""What every policy promises, as functions that a policy of your own can be put through.

Each of ``PROMISES`` takes a function that makes the policy from a seed, and raises AssertionError if the
promise is broken::

    import pytest
    from trimtab.testing import policy_contract

    @pytest.mark.parametrize("promise", policy_contract.PROMISES, ids=lambda f: f.__name__)
    @pytest.mark.parametrize("make", [policy_contract.bare("mine"), policy_contract.judged("mine")])
    def test_mine(promise, make):
        promise(make)

A policy that is to be blind to weights, or uneven by design, leaves that promise out. Nothing here waits:
time and randomness are handed in, so a promise that is kept once is kept always.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from trimtab import policies
from trimtab.balancer import Node
from trimtab.model import Endpoint, PolicyConfig
from trimtab.policies import Outcome, Policy
from trimtab.policies.stack import Stack

Make = Callable[[int], Policy]


def node(i: int, weight: int = 1) -> Node:
    """A candidate, as the balancer has them: idle, never called.

    Args:
        i: its number; each has an address of its own.
        weight: how much it should get relative to others.
    """
    return Node(Endpoint(f"10.0.{i // 250}.{i % 250 + 1}", 8080, weight=weight))


def bare(name: str) -> Make:
    """Makes a registered policy alone.

    What is returned raises ConfigError where the name is unknown.
    """
    return lambda seed: policies.build(PolicyConfig(name), Random(seed))


def judged(name: str) -> Make:
    """Makes a registered policy with ejection, error bias and slow start around it, as a channel has it.

    What is returned raises ConfigError where the name is unknown.
    """
    return lambda seed: Stack(PolicyConfig(name), Random(seed)).outer


def _hold(kept: bool, broken: str) -> None:
    if not kept:
        raise AssertionError(broken)


def picks_only_candidates(make: Make) -> None:
    """Whoever is picked was in the last update."""
    policy, random = make(1), Random(7)
    everyone = [node(i) for i in range(20)]
    for _ in range(50):
        some = random.sample(everyone, random.randint(1, 20))
        policy.update(some, 0.0)
        for _ in range(20):
            picked = policy.pick(0.0)
            _hold(picked in some, f"{picked.endpoint.target} was picked, and has left")


def an_empty_update_is_taken(make: Make) -> None:
    """All may leave; whoever comes later is picked."""
    policy = make(1)
    policy.update([node(0)], 0.0)
    policy.update([], 1.0)
    comes = node(1)
    policy.update([comes], 2.0)
    _hold(policy.pick(3.0) is comes, "the one that came is not picked")


def reaches_every_candidate(make: Make) -> None:
    """None of ten equal ones starves over 500 picks."""
    policy = make(1)
    nodes = [node(i) for i in range(10)]
    policy.update(nodes, 0.0)
    reached = {id(policy.pick(0.0)) for _ in range(500)}
    _hold(len(reached) == len(nodes), f"{len(reached)} of {len(nodes)} were picked")


def is_even_over_equal_endpoints(make: Make) -> None:
    """As even as chance, over 20,000 picks of eight idle ones."""
    policy = make(1)
    nodes = [node(i) for i in range(8)]
    policy.update(nodes, 0.0)
    n = 20_000
    counts = dict.fromkeys(map(id, nodes), 0)
    for _ in range(n):
        counts[id(policy.pick(0.0))] += 1
    # A binomial count has sd sqrt(n p (1-p)) = 46.8 around 2,500; five of them bound all eight.
    off = max(abs(count - n / 8) for count in counts.values())
    _hold(off < 5 * (n / 8 * 7 / 8) ** 0.5, f"one is {off:.0f} off its 2,500")


def respects_weights_when_idle(make: Make) -> None:
    """Weights 1 and 3 get a quarter and three."""
    policy = make(1)
    light, heavy = node(0, weight=1), node(1, weight=3)
    policy.update([light, heavy], 0.0)
    n = 8_000
    share = sum(policy.pick(0.0) is heavy for _ in range(n)) / n
    _hold(abs(share - 0.75) < 5 * (0.75 * 0.25 / n) ** 0.5, f"{share:.3f}, not 0.75")


def takes_the_end_of_an_attempt_on_a_node_that_left(make: Make) -> None:
    """Attempts may outlive their node's place among the candidates."""
    policy = make(1)
    gone, stays = node(0), node(1)
    policy.update([gone, stays], 0.0)
    policy.update([stays], 1.0)
    for outcome in Outcome:
        policy.done(gone, outcome, 0.01, 2.0, None)
    _hold(policy.pick(3.0) is stays, "one that has left is picked after its attempt's end")


def is_the_same_for_the_same_seed(make: Make) -> None:
    """It has no randomness or clock but what it is handed."""
    nodes = [node(i, weight=1 + i % 3) for i in range(9)]
    runs = []
    for _ in range(2):
        policy = make(42)
        policy.update(nodes, 0.0)
        runs.append([id(policy.pick(0.0)) for _ in range(200)])
    _hold(runs[0] == runs[1], "two of the same seed chose differently")


PROMISES: tuple[Callable[[Make], None], ...] = (
    picks_only_candidates,
    an_empty_update_is_taken,
    reaches_every_candidate,
    is_even_over_equal_endpoints,
    respects_weights_when_idle,
    takes_the_end_of_an_attempt_on_a_node_that_left,
    is_the_same_for_the_same_seed,
)
