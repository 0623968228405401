"""What the simulations of docs/results promise, in the small: the same scenarios, shorter, by fixed seeds.

Where a short run can't hold a target's own figure, its bound is what many seeds of the same run gave: their
mean and four standard deviations of a mean over the seeds used here.
"""

from dataclasses import replace
from statistics import fmean

import pytest

from trimtab.sim import library
from trimtab.sim.run import run_one
from trimtab.sim.scenario import Choice
from trimtab.sim.sizing import needs, parse_goal, saving

TOKEN = Choice.named("token")


def scenario(name, **changes):
    _, found = library.find(name)
    return replace(found, **changes)


def run(what, choice=TOKEN, seed=1):
    return run_one(what, choice, seed, lambda: 0.0)


def test_on_equal_pods_p99_is_near_that_of_global_knowledge():
    full = scenario("even-100x100", requests=40_000)
    small = replace(
        full, clients=replace(full.clients, count=40), servers=replace(full.servers, count=40)
    )
    seeds = (1, 2, 3, 4)
    ratio = fmean(run(small, TOKEN, s).p99_ms / run(small, None, s).p99_ms for s in seeds)
    # Target 1.06 (100 x 100, docs/results/policies.md). 16 seeds of this: 1.047, sd 0.0094; p2c: 1.19.
    assert ratio < 1.047 + 4 * 0.0094 / len(seeds) ** 0.5


def failing(name, **changes):
    """The library's scenario, in which the pod begins to fail at 2 s."""
    found = scenario(name, requests=None, **changes)
    (event,) = found.events
    return replace(found, events=(replace(event, at_s=2.0),))


def test_a_pod_that_begins_to_fail_costs_few_requests_in_the_first_2_s():
    found = run(failing("dead-pod", warmup_s=1.0, seconds=4.0))
    assert 0 < found.error_rate_after < 0.009


@pytest.mark.parametrize("name", ["dead-pod", "partial-failure"])
def test_a_pod_that_goes_on_failing_costs_at_most_one_request_in_a_thousand(name):
    # From 8 s after it began, so that the end of its first ejection, of 10 s, is among them.
    found = run(failing(name, warmup_s=10.0, seconds=20.0))
    assert 0 < found.error_rate < 0.001


def test_a_cold_pod_hardly_raises_p99_while_it_comes_to_its_share():
    cold = scenario("cold-pod", seconds=14.0, warmup_s=2.0)
    cold = replace(cold, events=(replace(cold.events[0], at_s=2.0),))
    warm = replace(cold, servers=replace(cold.servers, cold_requests=0))
    ratio = run(cold).p99_ms / run(warm).p99_ms
    # Target 1.05 over the 30 s after its coming (docs/results/policies.md); these are the worst 12 of
    # them. 4 seeds: 1.051, sd 0.005; without slow start 1.10.
    assert ratio < 1.051 + 4 * 0.005


def test_fewer_pods_reach_the_same_p99_than_under_round_robin():
    found = scenario("reference-pods", policies=(TOKEN,), bounds=False, requests=20_000, seeds=(1,))
    small = replace(  # 102.4 erlang, so 26 pods of 4 workers at least
        found,
        clients=replace(found.clients, count=40),
        load=replace(found.load, rate=10_240.0),
    )
    needed = needs(small, parse_goal("p99<60ms"), lambda: 0.0, lambda *_: None)
    # Target 18 % (docs/results/pods-saved.md). A pod more for token and one less for round_robin, whose
    # need is 31, would be (30 - 27) / 30; p2c saves nothing.
    assert saving(needed)["token"] >= 0.1
