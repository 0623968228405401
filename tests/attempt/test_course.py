"""The rules of attempts, over any history."""

import math
from http import HTTPStatus
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.attempt import Budget, Course, Ended, LatencyQuantile, Retry, Throttle, Verdict
from trimtab.attempt.course import MOST_UNSENT
from trimtab.errors import ConfigError

UNAVAILABLE = Ended(14)
OK = Ended(0, good=True)
ends = st.builds(
    Ended,
    code=st.sampled_from([3, 4, 8, 14]),
    unsent=st.booleans(),
    pushback=st.none() | st.sampled_from([-1.0, 0.0, 0.2]),
    timed_out=st.booleans(),
)
retries = st.builds(
    Retry,
    attempts=st.integers(1, 5),
    on=st.sampled_from([("UNAVAILABLE",), ("UNAVAILABLE", "RESOURCE_EXHAUSTED")]),
    hedge_after_s=st.none() | st.floats(0.0, 0.1),
)


def course(retry, budget=None, deadline=None, now=0.0):
    return Course(retry, budget or Budget(), Random(1), now, deadline)


@given(st.lists(ends.map(lambda e: Ended(e.code, False, False, e.pushback, e.timed_out))))
def test_a_call_that_nobody_declared_safe_is_never_sent_twice_once_it_may_have_arrived(history):
    for end in history:
        one = course(None)
        assert one.ended(0.1, end) is Verdict.FINAL
        assert one.next_at is None
        assert not one.due(9.0)
        assert one.running == 0


def test_a_call_that_reached_nobody_leaves_again_without_budget_until_all_is_hopeless():
    budget = Budget(floor=0.0)
    one = course(None, budget)
    for _ in range(MOST_UNSENT):
        assert one.ended(0.0, Ended(14, unsent=True)) is Verdict.AGAIN
    assert one.ended(0.0, Ended(14, unsent=True)) is Verdict.FINAL


def test_one_that_waits_for_ready_leaves_again_until_its_deadline():
    one = Course(None, Budget(floor=0.0), Random(1), 0.0, 5.0, waits=True)
    for _ in range(5 * MOST_UNSENT):
        assert one.ended(4.0, Ended(14, unsent=True)) is Verdict.AGAIN
    assert one.ended(5.0, Ended(14, unsent=True)) is Verdict.FINAL


@given(
    retries,
    st.lists(st.tuples(st.floats(0.0, 0.3), ends | st.none()), max_size=40),
    st.none() | st.floats(0.1, 3.0),
)
def test_any_history_keeps_to_the_number_the_deadline_and_one_end(retry, history, deadline):
    one = course(retry, deadline=deadline)
    now = 0.0
    for step, end in history:
        now += step
        late = deadline is not None and now >= deadline
        if one.due(now):
            assert not late
        if end is None or one.running == 0:
            continue
        verdict = one.ended(now, end)
        assert one.running >= 0
        assert one.made <= retry.attempts
        timeout = one.attempt_timeout(now)
        # (now + (deadline - now)) may be an ulp above the deadline.
        latest = math.inf if deadline is None else max(now, deadline) + 1e-9
        assert deadline is None or (timeout is not None and now + timeout <= latest)
        if verdict is Verdict.FINAL:
            assert not one.due(now + 100.0)
            return
        assert one.running or one.next_at is not None
        assert not late


def test_a_retry_waits_a_pause_that_grows_and_varies_by_a_fifth():
    one = course(Retry(4, backoff_s=0.1, most_backoff_s=0.3))
    pauses = []
    now = 0.0
    for _ in range(3):
        assert one.ended(now, UNAVAILABLE) is Verdict.WAIT
        pauses.append(one.next_at - now)
        now = one.next_at
        assert one.due(now)
    assert one.ended(now, UNAVAILABLE) is Verdict.FINAL
    for pause, middle in zip(pauses, (0.1, 0.2, 0.3), strict=True):
        assert 0.8 * middle <= pause <= 1.2 * middle


@pytest.mark.parametrize("retry", [Retry(3), Retry(3, hedge_after_s=9.0)])
def test_pushback_sets_the_pause_and_a_negative_one_ends_it(retry):
    one = course(retry)
    assert one.ended(0.0, Ended(14, pushback=1.5)) is Verdict.WAIT
    assert one.next_at == 1.5
    assert one.due(1.5)
    assert one.ended(2.0, Ended(14, pushback=-1.0)) is Verdict.FINAL


def test_pushback_counts_only_for_statuses_that_may_be_retried():
    assert course(Retry(3)).ended(0.0, Ended(3, pushback=0.0)) is Verdict.FINAL


def test_a_retry_that_could_only_begin_after_the_deadline_is_not_waited_for():
    one = course(Retry(3), deadline=1.0)
    assert one.ended(0.5, Ended(14, pushback=0.6)) is Verdict.FINAL


def test_an_attempt_whose_own_time_was_up_is_followed_by_another_within_the_deadline():
    one = course(Retry(3, attempt_timeout_s=0.3), deadline=0.5)
    assert one.attempt_timeout(0.0) == 0.3
    assert one.ended(0.3, Ended(4, timed_out=True)) is Verdict.WAIT
    assert one.due(one.next_at)
    assert one.attempt_timeout(0.4) == pytest.approx(0.1)


def test_a_hedge_leaves_after_the_delay_and_the_first_good_answer_ends_all():
    one = course(Retry(3, hedge_after_s=0.1))
    assert not one.due(0.05)
    assert one.due(0.1)
    assert one.running == 2
    assert one.ended(0.15, OK) is Verdict.FINAL
    assert not one.due(9.0)


def test_a_failed_attempt_brings_the_next_hedge_forward_and_a_fatal_one_ends_the_call():
    one = course(Retry(3, hedge_after_s=5.0))
    assert one.ended(0.1, UNAVAILABLE) is Verdict.WAIT
    assert one.due(0.1)
    assert one.ended(0.2, Ended(3)) is Verdict.FINAL


def test_after_the_first_message_there_is_no_other_attempt():
    one = course(Retry(3, hedge_after_s=0.1))
    one.commit()
    assert not one.due(1.0)
    assert one.ended(1.0, UNAVAILABLE) is Verdict.FINAL


def _outage(requests, budget, retry):
    attempts = 0
    for number in range(requests):
        one = course(retry, budget, now=number * 0.01)
        now = number * 0.01
        while one.ended(now, UNAVAILABLE) is not Verdict.FINAL:
            now = one.next_at
            if not one.due(now):
                break
        attempts += one.made
    return attempts / requests


@pytest.mark.parametrize("retry", [Retry(5), Retry(5, hedge_after_s=0.0)])
def test_in_a_full_outage_attempts_are_at_most_a_fifth_more_than_requests(retry):
    budget = Budget()
    _outage(100, budget, retry)
    assert 1.0 < _outage(10_000, budget, retry) <= 1.2 + 1e-9


def test_throttling_stops_retries_below_half_and_successes_bring_them_back():
    budget = Budget(ratio=1.0, floor=1000.0, throttle=Throttle(10.0, 0.5))
    assert _outage(200, budget, Retry(5)) < 1.1
    assert not budget.spend()
    for _ in range(11):
        budget.succeeded()
    assert budget.spend()


@given(st.floats(0.5, 0.99), st.integers(0, 2**32))
def test_the_quantile_of_latencies_is_right_to_a_step(quantile, seed):
    random = Random(seed)
    latency = LatencyQuantile(quantile)
    seen = [random.uniform(0.001, 1.0) for _ in range(1000)]
    for each in seen[:99]:
        latency.record(each)
    assert latency.seconds() is None
    for each in seen[99:]:
        latency.record(each)
    exact = sorted(seen)[int(quantile * 1000) - 1]
    assert exact * 0.99 <= latency.seconds() <= exact * 1.07


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"attempts": 0}, "attempts=0"),
        ({"attempts": 6}, "attempts=6"),
        ({"on": ["OK"]}, "on='OK'"),
        ({"on": ["NO_SUCH"]}, "on='NO_SUCH'"),
        ({"on": [1.5]}, "on=1.5"),
        ({"on": [True]}, "on=True"),
        ({"on": "UNAVAILABLE"}, "on='UNAVAILABLE' is not a list"),
        ({"backoff_s": -1.0}, "backoff_s=-1.0"),
        ({"backoff_s": None}, "backoff_s=None is not a number"),
        ({"hedge_quantile": "p95"}, "hedge_quantile='p95' is not a number, or None"),
        ({"most_backoff_s": float("inf")}, "most_backoff_s=inf"),
        ({"attempt_timeout_s": float("inf")}, "attempt_timeout_s=inf"),
        ({"hedge_after_s": 1e10}, "hedge_after_s=10000000000.0"),
        ({"multiplier": 0.0}, "multiplier=0.0"),
        ({"attempt_timeout_s": 0.0}, "attempt_timeout_s=0.0"),
        ({"hedge_after_s": -0.1}, "hedge_after_s=-0.1"),
        ({"hedge_quantile": 1.0}, "hedge_quantile=1.0"),
        ({"hedge_quantile": 0.9, "hedge_after_s": 0.1}, "hedge_quantile=0.9"),
    ],
)
def test_a_bad_declaration_is_refused_with_its_field_and_value(bad, said):
    with pytest.raises(ConfigError, match=said):
        Retry(**bad)


def test_statuses_may_be_python_s_own():
    assert Retry(on=[HTTPStatus.SERVICE_UNAVAILABLE]).on == {503}
