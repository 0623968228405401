"""The budget of further attempts: how many, in an outage and after the death of an endpoint."""

import sys
import threading
from bisect import bisect_left
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.attempt import Budget, Course, Ended, Retry, Verdict
from trimtab.attempt.budget import FLOOR, RATIO, Throttle

THREADS, EACH = 8, 3_000


@pytest.fixture
def impatient():
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_threads_spend_what_there_is_and_no_more(impatient):
    floor = float(THREADS * EACH // 2)
    throttle = Throttle(1000.0, 1.0)
    budget = Budget(ratio=0.0, floor=floor, throttle=throttle, lock=threading.Lock())
    spent = []

    def spend():
        spent.append(sum(budget.spend() for _ in range(EACH)))

    threads = [threading.Thread(target=spend) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(spent) == floor


def budget_of(in_flight):
    return Budget(in_flight=lambda: in_flight)


def spent(budget, asks):
    return sum(budget.spend() for _ in range(asks))


@pytest.mark.parametrize("in_flight", [0, 5, 64, 1000])
def test_what_is_saved_up_is_what_is_in_flight_and_at_least_the_floor(in_flight):
    budget = budget_of(in_flight)
    for _ in range(10_000):
        budget.earn()
    assert spent(budget, 5_000) == max(FLOOR, in_flight)


def test_a_new_client_begins_with_the_floor():
    assert spent(budget_of(1000), 100) == FLOOR


def test_everything_that_an_endpoint_takes_with_it_when_it_dies_may_be_made_again():
    servers, in_flight = 6, 64
    budget = budget_of(in_flight)
    for _ in range(1_000):
        budget.earn()
    # More than its part, as it may have had: five standard deviations of a binomial count.
    mean = in_flight / servers
    broken = round(mean + 5 * (mean * (1 - 1 / servers)) ** 0.5)
    assert spent(budget, broken) == broken


def test_what_was_saved_in_a_busier_time_goes_again():
    in_flight = [500]
    budget = Budget(in_flight=lambda: in_flight[0])
    for _ in range(10_000):
        budget.earn()
    in_flight[0] = 0
    for _ in range(10_000):
        budget.earn()
    assert spent(budget, 1_000) == FLOOR


@given(
    st.lists(
        st.tuples(st.sampled_from(["earn", "spend"]), st.integers(1, 200), st.integers(0, 300)),
        max_size=60,
    )
)
def test_any_stretch_of_requests_has_a_fifth_more_attempts_and_what_was_saved_before(history):
    now = [0]
    budget = Budget(in_flight=lambda: now[0])
    earned, paid, tokens = [0], [0], [FLOOR]
    most = FLOOR
    for what, times, in_flight in history:
        now[0] = in_flight
        most = max(most, in_flight)
        for _ in range(times):
            if what == "earn":
                budget.earn()
            got = what == "spend" and budget.spend()
            earned.append(earned[-1] + (what == "earn"))
            paid.append(paid[-1] + got)
            tokens.append(budget._tokens)
    assert max(tokens) <= most
    for begin in range(0, len(earned), 7):
        for end in range(begin, len(earned), 11):
            requests, more = earned[end] - earned[begin], paid[end] - paid[begin]
            assert more <= tokens[begin] + RATIO * requests + 1e-6


RATE, OUTAGE_S = 100, 60.0


def chain(hops, declared):
    """Requests through so many services, each calling the next; the last fails for a minute.

    Returns the times of the requests, and of the executions at the last service.
    """
    random = Random(1)
    retry = Retry(5, backoff_s=0.001, most_backoff_s=0.01)
    budgets = [budget_of(RATE // 50) for _ in range(hops)]
    asked = [n / RATE for n in range(round((OUTAGE_S + 60.0) * RATE))]
    executed = []

    def call(hop, now):
        """How the call to the service after ``hop`` ends, and when."""
        if hop == hops:
            executed.append(now)
            failed = 20.0 <= now < 20.0 + OUTAGE_S
            return Ended(14 if failed else 0, good=not failed), now
        course = Course(retry if hop in declared else None, budgets[hop], random, now)
        while True:
            end, now = call(hop + 1, now)
            if course.ended(now, end) is Verdict.FINAL:
                return end, now
            now = course.next_at
            if not course.due(now):
                return end, now

    for at in asked:
        call(0, at)
    return asked, sorted(executed)


def amplification(asked, executed, begin, end):
    count = bisect_left(executed, end) - bisect_left(executed, begin)
    return count / (bisect_left(asked, end) - bisect_left(asked, begin))


@pytest.mark.parametrize(
    ("declared", "most"), [({0}, 1.2), ({1}, 1.2), ({2}, 1.2), ({0, 1, 2}, 1.2**3)]
)
def test_in_a_chain_of_three_services_an_outage_is_amplified_once_per_hop_that_retries(
    declared, most
):
    asked, executed = chain(3, declared)
    # The bursts of all hops, and a request more or less at the edges of a window.
    burst = (len(declared) * FLOOR * most + 2) / (10 * RATE)
    for begin in range(0, 110, 1):
        assert amplification(asked, executed, begin, begin + 10) <= most + burst
    assert amplification(asked, executed, 30, 80) > 1.15  # there is something to bound
    assert amplification(asked, executed, 30, 80) <= most + 1e-2
    assert amplification(asked, executed, 90, 120) == 1.0
