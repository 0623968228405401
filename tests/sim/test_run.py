"""What runs come to: sums that must hold, the same again by seed, and what events do."""

from dataclasses import replace
from random import Random

import pytest

from trimtab.model import PolicyConfig
from trimtab.sim.engine import Engine, endpoint
from trimtab.sim.run import contestants, run, run_one
from trimtab.sim.scenario import Choice
from trimtab.sim.server import Server
from trimtab.sim.service_time import exponential

P2C = Choice.named("p2c")
ONE = {"events": [{"kind": "gone", "pods": 1, "at_s": 1.0}]}


def figures(scenario, choice=P2C, seed=1):
    return run_one(scenario, choice, seed, lambda: 0.0)


EVENTS = [
    {"kind": "speed", "pods": 1, "at_s": 0.5, "for_s": 0.5, "speed": 0.3},
    {"kind": "antagonist", "part": 0.5, "every_s": 0.2},
    {"kind": "failing", "pods": 1, "at_s": 0.5, "for_s": 1, "failures": 0.5},
    {"kind": "gone", "pods": 1, "at_s": 0.5, "for_s": 1, "told_after_s": 0.2},
    {"kind": "gone", "part": 1.0, "at_s": 0.5, "for_s": 1, "told_after_s": 0.2},
    {"kind": "gone", "pods": 1, "at_s": 0.5, "for_s": 0.2, "told_after_s": 1},
    {"kind": "restart", "pods": 2, "at_s": 0.5},
    {"kind": "add", "pods": 2, "at_s": 0.5},
    {"kind": "remove", "pods": 2, "at_s": 0.5},
    {"kind": "rollout", "at_s": 0.5, "every_s": 0.2},
    {"kind": "autoscaler", "every_s": 0.3, "target": 0.3, "start_s": 0.1},
    {"kind": "load", "at_s": 0.5, "factor": 2, "for_s": 0.5},
]


@pytest.mark.parametrize("discipline", ["fifo", "sharing"])
@pytest.mark.parametrize("event", EVENTS, ids=[f"{i}-{e['kind']}" for i, e in enumerate(EVENTS)])
def test_whatever_happens_every_request_ends_once(event, discipline, scenario):
    servers = {"count": 4, "workers": 2, "discipline": discipline, "cold_requests": 20}
    found = scenario(
        servers=servers, events=[event], seconds=2, requests=None, warmup_s=0, load={"rho": 0.7}
    )
    for choice in (P2C, Choice.named("token"), None):
        result = figures(found, choice)
        refused = result.requests - sum(result.picks)
        assert refused >= 0
        if not (event["kind"] == "gone" and event.get("part")):
            assert refused == 0
        answered = round(result.requests * (1 - result.error_rate))
        assert 0 < answered <= result.requests
        assert 0.0 < result.utilisation <= 1.05


def test_a_server_s_books_balance():
    engine = Engine(draw=exponential(0.01, Random(1)), random=Random(2), delay=lambda _a, _b: 0.001)
    pods = [Server(endpoint(i), 2, sharing=i % 2 == 1) for i in range(4)]
    client = engine.add_client("", PolicyConfig.of("p2c"), Random(3))
    engine.publish(pods, [client])
    pods[0].failing = 0.3
    engine.at(2.0, lambda: engine.kill(pods[1]))
    engine.at(2.0, lambda: engine.kill(pods[2]))
    engine.open_loop(500.0, 4.0, lambda: client)
    engine.run()
    assert all(pod.outstanding == 0 for pod in pods)
    assert all(pod.meter.in_flight == 0 for pod in pods)
    assert client.balancer.in_flight == 0
    tally = engine.tally
    assert sum(pod.sent for pod in pods) == tally.requests
    assert tally.requests == len(tally.latencies) + len(tally.failures)
    assert len(tally.failures) == sum(pod.failed for pod in pods) > 0


@pytest.mark.parametrize("name", ["p2c", "token", "prequal"])
def test_the_same_seed_gives_the_same_figures(name, scenario):
    found = scenario(**ONE)
    first, again = (figures(found, Choice.named(name), seed=5) for _ in range(2))
    other = figures(found, Choice.named(name), seed=6)
    assert replace(first, speed=0.0) == replace(again, speed=0.0)
    assert other.mean_ms != first.mean_ms
    assert other.requests != first.requests  # other arrivals, too


def test_all_policies_of_a_seed_meet_the_same_arrivals(scenario):
    found = scenario()
    counts = {figures(found, Choice.named(n)).requests for n in ("p2c", "token", "round_robin")}
    assert len(counts) == 1


def test_the_bounds_stand_around_the_policies(scenario):
    found = scenario(
        clients={"count": 30}, servers={"count": 30}, load={"rho": 0.8}, bounds=True,
        policies=["p2c", "token"], requests=40_000,
    )  # fmt: skip
    rows = run(found, lambda: 0.0, lambda *_: None)
    assert [row.label for row in rows] == ["random", "p2c", "token", "JSQ, global knowledge"]
    p99 = [row.mean("p99_ms") for row in rows]
    assert p99 == sorted(p99, reverse=True)
    assert p99[0] > 1.3 * p99[-1]


def test_a_bound_that_the_scenario_names_itself_is_not_added_twice(scenario):
    found = scenario(bounds=True, policies=[{"name": "random", "judges": False}])
    assert [one.label for one in contestants(found)] == [
        "random (judges=false)",
        "JSQ, global knowledge",
    ]


def test_global_knowledge_avoids_what_is_gone(scenario):
    found = scenario(**ONE, warmup_s=0)
    known, guessed = figures(found, None), figures(found, P2C)
    assert known.error_rate < guessed.error_rate


def test_errors_are_counted_after_their_event(scenario):
    found = scenario(
        events=[{"kind": "failing", "pods": 4, "at_s": 2.0, "for_s": 0.5}], seconds=8, requests=None
    )
    result = figures(found, Choice.named("p2c", judges=False))
    assert result.error_rate == pytest.approx(0.5 / (8 - 1.6), rel=0.15)
    assert result.error_rate_after == pytest.approx(0.25, rel=0.15)


def test_an_event_that_passes_leaves_pods_as_they_were(scenario):
    slow = [{"kind": "speed", "pods": 4, "at_s": 0.2, "for_s": 0.3, "speed": 0.5}]
    quiet = {"seconds": 6, "requests": None, "warmup_s": 3, "load": {"rho": 0.3}}
    assert figures(scenario(events=slow, **quiet)).mean_ms == pytest.approx(
        figures(scenario(**quiet)).mean_ms, rel=0.05
    )
    for_ever = [{"kind": "speed", "pods": 4, "at_s": 0.2, "speed": 0.5}]
    assert figures(scenario(events=for_ever, **quiet)).mean_ms > 1.7 * (
        figures(scenario(**quiet)).mean_ms
    )


def test_a_load_that_passes_is_as_it_was(scenario):
    quiet = {"seconds": 8, "requests": None, "warmup_s": 4, "load": {"rate": 500}}
    passing = [{"kind": "load", "at_s": 1, "for_s": 1, "factor": 3}]
    lasting = [{"kind": "load", "at_s": 1, "factor": 3}]
    assert figures(scenario(events=passing, **quiet)).requests == pytest.approx(2000, abs=180)
    assert figures(scenario(events=lasting, **quiet)).requests == pytest.approx(6000, abs=310)


@pytest.mark.parametrize("kind", ["add", "rollout"])
def test_pods_that_come_are_cold(kind, scenario):
    cold = {"count": 4, "workers": 4, "cold_requests": 10_000, "cold_slow": 3}
    event = {"kind": kind, "pods": 4, "at_s": 0.1}
    quiet = {"load": {"rate": 100}, "seconds": 10, "requests": None, "events": [event]}
    warm = scenario(**quiet)
    assert figures(scenario(servers=cold, **quiet)).mean_ms > 1.5 * figures(warm).mean_ms


def test_cold_requests_take_longer(scenario):
    cold = {"count": 4, "workers": 4, "cold_requests": 10_000, "cold_slow": 3}
    restart = [{"kind": "restart", "part": 1.0, "at_s": 0.1}]
    quiet = {"load": {"rate": 100}, "seconds": 10, "requests": None}
    warm = figures(scenario(**quiet))
    assert figures(scenario(servers=cold, events=restart, **quiet)).mean_ms == pytest.approx(
        0.5 + 3 * (warm.mean_ms - 0.5), rel=0.1
    )


def test_an_autoscaler_reaches_its_target_again_and_again(scenario):
    found = scenario(
        servers={"count": 4, "workers": 4},
        load={"rho": 0.9},
        events=[
            {"kind": "autoscaler", "target": 0.5, "every_s": 1, "start_s": 0.5},
            {"kind": "load", "at_s": 8, "factor": 2},
        ],
        seconds=20, requests=None, warmup_s=14,
    )  # fmt: skip
    result = figures(found)
    assert len(result.picks) >= 13
    assert result.utilisation == pytest.approx(0.5, rel=0.12)


def test_a_rollout_replaces_every_pod(scenario):
    found = scenario(
        events=[{"kind": "rollout", "at_s": 0.5, "every_s": 0.3, "pods": 2}],
        seconds=4, requests=None, warmup_s=2,
    )  # fmt: skip
    picks = figures(found).picks
    assert len(picks) == 8
    assert picks[:4] == (0, 0, 0, 0)
    assert min(picks[4:]) > 0


def test_clients_send_by_their_rates(scenario):
    found = scenario(clients={"zones": {"a": 2, "b": 2}, "zone_rates": {"b": 3}},
                     servers={"zones": {"a": 2, "b": 2}},
                     network={"between_zones_ms": 5})  # fmt: skip
    strict = figures(found, Choice.named("round_robin", zone="strict"))
    assert strict.crossed == 0.0
    in_a = sum(strict.picks[0::2]) / sum(strict.picks)  # the pods' zones take turns
    assert in_a == pytest.approx(0.25, abs=0.03)
    assert figures(found, Choice.named("round_robin", zone="off")).crossed == pytest.approx(
        0.5, abs=0.03
    )


def test_progress_grows_to_the_end(scenario):
    found = scenario(requests=2000)
    parts = []
    run_one(found, P2C, 1, lambda: 0.0, parts.append)
    assert parts[-1] == pytest.approx(1.0)
    assert parts == sorted(parts)
