"""The simulator against queueing theory.

Tolerances are four standard errors. The waits of neighbours in a queue are alike, so the error of a
mean comes from 20 batches, each much longer than a busy period.
"""

import math
from random import Random
from statistics import fmean, stdev

import pytest

from trimtab import policies
from trimtab.model import PolicyConfig
from trimtab.policies.p2c import P2C
from trimtab.sim.engine import Engine, endpoint
from trimtab.sim.server import Server
from trimtab.sim.service_time import bimodal, constant, exponential, lognormal

BATCHES = 20
BARE = {"judges": False}


def world(
    *, rho, servers=1, workers=1, clients=1, requests=60_000, policy="p2c", sharing=False, draw=None
):
    """Mean service time 1 s, no delay; times are then in service times."""
    engine = Engine(
        draw=draw or exponential(1.0, Random(11)), random=Random(12), delay=lambda _a, _b: 0.0
    )
    pods = [Server(endpoint(i), workers, sharing=sharing) for i in range(servers)]
    senders = [
        engine.add_client("", PolicyConfig.of(policy, **BARE), Random(i)) for i in range(clients)
    ]
    engine.publish(pods, senders)
    draw_client = Random(13).random
    rate = rho * servers * workers
    engine.open_loop(rate, requests / rate, lambda: senders[int(draw_client() * clients)])
    engine.run()
    return engine, pods, rate


def mean_and_error(values):
    """Of a correlated series, after its first tenth."""
    values = values[len(values) // 10 :]
    size = len(values) // BATCHES
    batches = [fmean(values[i * size : (i + 1) * size]) for i in range(BATCHES)]
    return fmean(batches), stdev(batches) / math.sqrt(BATCHES)


def erlang_c(servers, load):
    """The part of requests that wait in M/M/c, offered ``load`` erlang."""
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = load * blocked / (n + load * blocked)
    return blocked / (1.0 - load / servers * (1.0 - blocked))


@pytest.mark.parametrize(("workers", "rho"), [(1, 0.5), (1, 0.7), (4, 0.8), (20, 0.9)])
def test_a_queue_with_workers_waits_as_erlang_says(workers, rho):
    engine, _, _ = world(rho=rho, workers=workers)
    wait = erlang_c(workers, rho * workers) / (workers * (1.0 - rho))
    mean, error = mean_and_error(engine.tally.latencies)
    assert mean == pytest.approx(1.0 + wait, abs=4 * error)
    assert error < 0.08 * (1.0 + wait)  # or the line above says little


@pytest.mark.parametrize("shape", ["exponential", "lognormal"])
def test_a_single_queue_waits_as_pollaczek_and_khinchine_say(shape):
    sigma = 0.8
    draws = {
        "exponential": (exponential(1.0, Random(11)), 2.0),
        "lognormal": (lognormal(1.0, sigma, Random(11)), math.exp(sigma * sigma)),
    }
    draw, second_moment = draws[shape]
    engine, _, _ = world(rho=0.6, draw=draw)
    wait = 0.6 * second_moment / (2.0 * (1.0 - 0.6))
    mean, error = mean_and_error(engine.tally.latencies)
    assert mean == pytest.approx(1.0 + wait, abs=4 * error)


@pytest.mark.parametrize("shape", ["exponential", "bimodal"])
def test_shared_processors_do_not_care_how_service_times_are_spread(shape):
    random = Random(11)
    draw = exponential(1.0, random) if shape == "exponential" else bimodal(1.0, 0.1, 8.0, random)
    engine, _, _ = world(rho=0.6, sharing=True, draw=draw)
    mean, error = mean_and_error(engine.tally.latencies)
    assert mean == pytest.approx(1.0 / (1.0 - 0.6), abs=4 * error)


def test_several_shared_processors_wait_as_erlang_says():
    engine, _, _ = world(rho=0.8, workers=4, sharing=True)
    wait = erlang_c(4, 3.2) / (4 * (1.0 - 0.8))
    mean, error = mean_and_error(engine.tally.latencies)
    assert mean == pytest.approx(1.0 + wait, abs=4 * error)


class Textbook(P2C):
    """Two independent draws."""

    def pick(self, now, key=None):
        self._left = 0
        return super().pick(now, key)


@pytest.fixture
def textbook():
    policies.register("textbook")(lambda _params, random: Textbook(random))
    yield "textbook"
    del policies._registry["textbook"]


def mitzenmacher(rho):
    """Mean time with two choices: sum of rho^((d^i - d) / (d - 1)), d = 2.

    Mitzenmacher, "The power of two choices", 2001; exact for endlessly many queues. For 200 the error is
    of the order of 1/200.
    """
    return sum(rho ** (2**i - 2) for i in range(1, 12))


def test_two_choices_among_many_queues_wait_as_mitzenmacher_says(textbook):
    """One client knows all, so P2C sees the true queues."""
    engine, _, _ = world(rho=0.9, servers=200, requests=150_000, policy=textbook)
    expected = mitzenmacher(0.9)
    mean, error = mean_and_error(engine.tally.latencies)
    assert mean == pytest.approx(expected, abs=4 * error + expected / 200)


def test_two_choices_of_which_the_first_goes_round_wait_less():
    engine, _, _ = world(rho=0.9, servers=200, requests=150_000)
    mean, error = mean_and_error(engine.tally.latencies)
    assert mean < mitzenmacher(0.9) - 4 * error


def test_random_choice_makes_each_pod_a_queue_of_its_own():
    engine, _, _ = world(rho=0.7, servers=10, policy="random", requests=100_000)
    mean, error = mean_and_error(engine.tally.latencies)
    assert mean == pytest.approx(1.0 / (1.0 - 0.7), abs=4 * error)


def test_the_mean_number_of_requests_is_the_rate_times_their_time():
    engine = Engine(draw=exponential(1.0, Random(1)), random=Random(2), delay=lambda _a, _b: 0.1)
    pods = [Server(endpoint(i), 2) for i in range(3)]
    client = engine.add_client("", PolicyConfig.of("p2c", **BARE), Random(3))
    engine.publish(pods, [client])
    length, step, seen = 4000.0, 0.25, []

    def look():
        seen.append(client.balancer.in_flight)
        if engine.now + step < length:
            engine.at(engine.now + step, look)

    look()
    engine.open_loop(4.2, length, lambda: client)
    engine.run()
    number = fmean(seen)
    rate = engine.tally.requests / length
    assert number == pytest.approx(rate * fmean(engine.tally.latencies), rel=0.02)


def test_a_closed_loop_answers_as_often_as_its_callers_ask():
    """Fixed times, no queue: each of 3 callers takes 1 s service + 0.5 s thinking."""
    engine = Engine(draw=constant(1.0), random=Random(1), delay=lambda _a, _b: 0.0)
    pods = [Server(endpoint(0), 3)]
    client = engine.add_client("", PolicyConfig.of("p2c", **BARE), Random(3))
    engine.publish(pods, [client])
    engine.closed_loop(client, 3, constant(0.5), 150.0)
    engine.run()
    assert engine.tally.requests == pytest.approx(3 * 150 / 1.5, abs=3)
    assert {round(s, 9) for s in engine.tally.latencies} == {1.0}


def test_utilisation_is_the_offered_load():
    _, pods, rate = world(rho=0.6, servers=5, workers=2)
    spent = sum(pod.work_s for pod in pods)
    assert spent / (60_000 / rate) / 10 == pytest.approx(0.6, rel=0.03)
