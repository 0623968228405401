"""What a channel's further attempts go by when a Service's owner changes his mind."""

import tracemalloc
from random import Random

import pytest

from trimtab.attempt import NO_PLANS
from trimtab.balancer import Balancer
from trimtab.client.attempts import Attempts
from trimtab.model import Repeatable, ServicePort

METHOD = "/shop.Orders/Get"


def saying(**declared):
    return ServicePort("orders", "shop", 80, repeatable=Repeatable((METHOD,), **declared))


@pytest.fixture
def attempts():
    balancer = Balancer("orders.shop:80", clock=lambda: 0.0, random=Random(1))
    return Attempts(NO_PLANS, Random(1), balancer)


def hedge_s(attempts):
    """When a call that begins now would be hedged [s]."""
    return attempts.begin(METHOD, None, 0.0).course.next_at


def answer(attempts, seconds):
    attempts.begin(METHOD, None, 0.0).ended(seconds, 0, ())


def test_another_quantile_counts_as_soon_as_it_is_declared(attempts):
    attempts.follow(saying(hedge_quantile=0.5))
    for number in range(200):
        answer(attempts, 1.0 if number % 5 == 0 else 0.01)
    assert hedge_s(attempts) == pytest.approx(0.01, rel=0.06)
    attempts.follow(saying(hedge_quantile=0.9))
    for number in range(200):
        answer(attempts, 1.0 if number % 5 == 0 else 0.01)
    assert hedge_s(attempts) == pytest.approx(1.0, rel=0.06)


def test_the_same_word_again_forgets_no_latencies(attempts):
    attempts.follow(saying(hedge_quantile=0.5))
    for _ in range(200):
        answer(attempts, 0.01)
    attempts.follow(saying(hedge_quantile=0.5, attempts=4))
    assert hedge_s(attempts) == pytest.approx(0.01, rel=0.06)


def test_what_is_declared_no_more_runs_once(attempts):
    attempts.follow(saying())
    assert attempts.declares(METHOD)
    attempts.follow(None)
    assert not attempts.declares(METHOD)


def test_names_that_somebody_makes_up_are_not_all_kept(attempts):
    attempts.follow(ServicePort("orders", "shop", 80, repeatable=Repeatable(("*",))))
    tracemalloc.start()
    try:
        first = second = 0
        for number in range(6000):
            attempts.declares(f"/made.Up/M{number}")
            if number == 2999:
                first = tracemalloc.get_traced_memory()[0]
        second = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert second - first < 10_000  # 3,000 more names, all kept, take over 400 kB


def test_a_method_among_too_many_is_hedged_by_what_the_others_took(attempts):
    declared = Repeatable(("*",), hedge_quantile=0.5)
    attempts.follow(ServicePort("orders", "shop", 80, repeatable=declared))
    for number in range(1500):
        attempts.begin(f"/made.Up/M{number}", None, 0.0).ended(0.01, 0, ())
    assert attempts.begin("/made.Up/New", None, 0.0).course.next_at == pytest.approx(0.01, rel=0.06)
