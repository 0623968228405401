"""What the end of an HTTP attempt means."""

import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.attempt import Ended, Retry, Verdict
from trimtab.attempt.budget import FLOOR, RATIO, Budget
from trimtab.attempt.course import MOST_UNSENT
from trimtab.balancer import Balancer
from trimtab.client.http_attempts import (
    Broke,
    HttpAttempts,
    HttpCall,
    outcome_of_http,
    report_of_http,
)
from trimtab.client.http_plans import IDEMPOTENT, ONCE, HttpPlans
from trimtab.errors import ConfigError
from trimtab.load_report import LoadReport
from trimtab.model import Endpoint, Repeatable, ServicePort, Snapshot
from trimtab.policies import Outcome


def at(seconds):
    return lambda: seconds


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.SUCCESS),
        (304, Outcome.SUCCESS),
        (404, Outcome.ANSWERED),
        (408, Outcome.TIMEOUT),
        (429, Outcome.OVERLOADED),
        (500, Outcome.FAILURE),
        (501, Outcome.ANSWERED),
        (502, Outcome.FAILURE),
        (503, Outcome.OVERLOADED),
    ],
)
def test_a_status_counts_against_the_endpoint_or_not(status, outcome):
    assert outcome_of_http(status) is outcome


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2", 2.0), ("1.5", 1.5), ("9999", 60.0), ("0", None), ("-3", None), ("nan", None),
     ("inf", None), ("soon", None), ("", None)],
)  # fmt: skip
def test_retry_after_is_seconds_that_make_sense(text, seconds):
    report = report_of_http({"retry-after": text}, at(0))
    assert (report.retry_after if report else None) == seconds


@pytest.mark.parametrize(
    ("date", "text", "seconds"),
    [
        ("Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:07 GMT", 7.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", "Wednesday, 21-Oct-26 07:28:07 GMT", 7.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", "Wed Oct 21 07:28:07 2026", 7.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 08:28:00 GMT", 60.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:27:00 GMT", None),
        (None, "Wed, 21 Oct 2026 07:28:09 GMT", 9.0),
        ("no date", "Wed, 21 Oct 2026 07:28:09 GMT", 9.0),
    ],
)
def test_retry_after_as_a_date_counts_from_the_response_s_own_date_else_from_now(
    date, text, seconds
):
    # With a date of the server's, a clock of ours that is off by years makes no difference.
    now = at(1_792_567_680 if date in {None, "no date"} else 0)
    headers = {"retry-after": text} | ({} if date is None else {"date": date})
    report = report_of_http(headers, now)
    assert (report.retry_after if report else None) == seconds


@given(st.text(), st.text(), st.text())
def test_no_header_breaks_the_reading(load, rest, date):
    headers = {"endpoint-load-metrics": load, "retry-after": rest, "date": date}
    report_of_http(headers, at(0))


@given(st.lists(st.booleans(), max_size=300))
def test_retries_are_at_most_a_fifth_of_the_requests_and_a_floor(wishes):
    budget, requests, retries = Budget(), 0, 0
    for wish in wishes:
        requests += 1
        budget.earn()
        retries += wish and budget.spend()
    assert retries <= FLOOR + RATIO * requests


def call(method, *, repeatable=True, patience=None, clock=None, **declared):
    rules = HttpAttempts(HttpPlans(**declared), Budget(), clock or at(0.0), Random(1))
    return HttpCall(rules, method, repeatable=repeatable, patience=patience)


def after_break(made, broke):
    return made.after(made.broken(broke, None))


def after_status(made, status, rest=None):
    report = None if rest is None else LoadReport(retry_after=rest)
    return made.after(made.answered(status, report, None))


@pytest.mark.parametrize("method", ["POST", "PATCH", "CONNECT"])
@pytest.mark.parametrize("declared", [{}, {"retry": Retry(on=[503])}])
def test_what_may_have_been_done_is_not_done_twice(method, declared):
    assert after_break(call(method, **declared), Broke.LOST) is None
    assert after_break(call(method, **declared), Broke.FAULTY) is None
    assert after_status(call(method, **declared), 503) is None


@pytest.mark.parametrize("declared", [{}, {"retry": Retry(on=[503])}])
def test_a_body_that_can_t_be_read_twice_is_not_sent_twice(declared):
    assert after_break(call("PUT", repeatable=False, **declared), Broke.LOST) is None
    assert not call("PUT", repeatable=False, retry=Retry(hedge_after_s=0.1)).hedges


def owned(repeatable, method, **declared):
    """A request to a Service whose owner declares this."""
    rules = HttpAttempts(HttpPlans(**declared), Budget(), at(0.0), Random(1))
    rules.follow(ServicePort("orders", "shop", 80, repeatable=repeatable))
    return HttpCall(rules, method, repeatable=True)


def test_what_a_service_declares_may_run_more_than_once():
    declared = Repeatable(("POST", "/shop.Orders/Get"), attempts=2)
    assert after_status(owned(declared, "POST"), 502) is not None
    assert owned(declared, "PATCH").retry is None
    assert owned(declared, "GET").retry == ONCE
    assert owned(Repeatable(("*",)), "PATCH").retry is not None


def test_what_a_caller_said_of_a_method_goes_before_what_the_service_declares():
    declared = Repeatable(("*",), attempts=5)
    own = Retry(attempts=2, on=[500])
    assert owned(declared, "GET", retry=own).retry.attempts == 2
    assert owned(declared, "POST", retries={"POST": own}).retry.attempts == 2
    assert owned(declared, "POST", retry=own).retry.attempts == 5


def test_what_a_service_takes_back_is_declared_no_more():
    rules = HttpAttempts(HttpPlans(), Budget(), at(0.0), Random(1))
    rules.follow(ServicePort("orders", "shop", 80, repeatable=Repeatable(("POST",))))
    rules.follow(ServicePort("orders", "shop", 80))
    assert HttpCall(rules, "POST", repeatable=True).retry is None


def test_another_quantile_counts_as_soon_as_the_service_declares_it():
    rules = HttpAttempts(HttpPlans(), Budget(), at(0.0), Random(1))
    for quantile in (0.5, 0.9):
        declared = Repeatable(("GET",), hedge_quantile=quantile)
        rules.follow(ServicePort("orders", "shop", 80, repeatable=declared))
        made = HttpCall(rules, "GET", repeatable=True)
        assert rules.latency("GET", made.retry.hedge_quantile).quantile == quantile


@pytest.mark.parametrize("method", IDEMPOTENT)
def test_without_a_word_idempotent_methods_are_sent_again_once_and_at_once(method):
    for ending in (
        lambda made: after_break(made, Broke.LOST),
        lambda made: after_break(made, Broke.FAULTY),
        lambda made: after_status(made, 503),
    ):
        made = call(method)
        assert ending(made) == 0.0
        assert ending(made) is None
    assert after_status(call(method), 502) is None


def test_without_a_word_a_retry_after_does_not_hold_up_the_attempt_elsewhere():
    assert after_status(call("GET"), 503, rest=30.0) == 0.0


def test_what_reached_nobody_goes_elsewhere_whatever_it_is_but_not_for_ever():
    made = call("POST", repeatable=False)
    assert [after_break(made, Broke.UNREACHED) for _ in range(MOST_UNSENT + 1)] == [
        *[0.0] * MOST_UNSENT,
        None,
    ]


def looking(now, others, connect_s, **declared):
    """A request that has left for an endpoint, of so many others; what comes of each break."""
    balancer = Balancer("orders.shop:80", clock=lambda: now[0], random=Random(1))
    addresses = [f"10.0.0.{n}" for n in range(1 + others)]
    endpoints = tuple(Endpoint(address, 80) for address in addresses)
    balancer.update(Snapshot("orders.shop:80", endpoints))
    for node in balancer.nodes.values():
        balancer.set_connected(node, True)
    rules = HttpAttempts(HttpPlans(**declared), Budget(), lambda: now[0], Random(1), balancer)
    made = HttpCall(rules, "GET", repeatable=True, connect_s=connect_s)

    def attempt(seconds):
        pick = balancer.pick()
        made.leaves(pick)
        now[0] += seconds
        pick.finish(Outcome.UNREACHED)
        return made.broken(Broke.UNREACHED, None)

    return made, attempt


@pytest.mark.parametrize(
    ("others", "connect_s", "each_s", "attempts"),
    [
        (0, 5.0, 5.0, 1),  # the only one takes all of the time
        (2, 5.0, 1.0, 5),  # a second for each
        (2, 1.0, 1.0, 2),  # one other in any case
        (2, None, 1.0, 10),
        (0, None, 127.0, 1),  # an operating system's own patience
        (0, 5.0, 0.0, MOST_UNSENT + 2),  # and once as what was lost
    ],
)
def test_another_endpoint_is_looked_for_while_the_caller_would_wait_for_a_connection(
    others, connect_s, each_s, attempts
):
    made, attempt = looking([1000.0], others, connect_s)
    count = 1
    while made.after(attempt(each_s)) is not None:
        count += 1
    assert count == attempts


def test_a_hedge_without_a_connection_does_not_end_what_waits_for_an_answer():
    now = [0.0]
    made, attempt = looking(now, 0, 1.0, retry=Retry(attempts=2, hedge_after_s=0.5))
    assert made.course.running == 1
    now[0] = 0.5
    assert made.course.due(now[0])
    assert made.course.ended(now[0], attempt(1.0)) is Verdict.WAIT


def test_what_the_server_has_not_looked_at_goes_again_whatever_it_is_unless_its_body_can_t():
    for broke in (Broke.UNREAD, Broke.REFUSED):
        assert after_break(call("POST"), broke) == 0.0
        assert after_break(call("POST", repeatable=False), broke) is None
    assert Broke.UNREAD.outcome is Outcome.CANCELLED
    assert Broke.REFUSED.outcome is Outcome.OVERLOADED


@pytest.mark.parametrize("broke", [Broke.TIMEOUT, Broke.LOCAL])
def test_what_is_the_caller_s_or_too_late_ends(broke):
    assert after_break(call("GET"), broke) is None
    assert after_break(call("GET", retry=Retry()), broke) is None


def test_declared_statuses_are_followed_by_so_many_attempts_with_growing_pauses():
    made = call("GET", retry=Retry(attempts=4, on=[502], backoff_s=0.1, multiplier=3.0))
    pauses = [after_status(made, 502) for _ in range(4)]
    assert pauses[3] is None
    for pause, base in zip(pauses, (0.1, 0.3, 0.9), strict=False):
        assert 0.8 * base <= pause <= 1.2 * base
    assert after_status(call("GET", retry=Retry(on=[502])), 503) is None


def test_a_broken_connection_is_followed_by_another_attempt_whatever_statuses_are_declared():
    assert after_break(call("GET", retry=Retry(on=[502])), Broke.LOST) is not None


def test_a_method_that_is_named_goes_by_its_own_rule():
    declared = {"retries": {"POST": Retry(on=[503])}, "retry": Retry(attempts=1)}
    assert after_status(call("POST", **declared), 503) is not None
    assert after_status(call("PATCH", **declared), 503) is None
    assert after_status(call("GET", **declared), 503) is None


def test_grpc_s_word_for_it_means_503_too():
    assert after_status(call("GET", retry=Retry()), 503) is not None
    assert after_status(call("GET", retry=Retry(on=["UNAVAILABLE"])), 503) is not None


@pytest.mark.parametrize(("rest", "pause"), [(2.0, 2.0), (5.0, 5.0), (5.1, None)])
def test_retry_after_is_the_next_pause_unless_the_caller_would_not_wait_so_long(rest, pause):
    made = call("GET", patience=5.0, retry=Retry(on=[503], backoff_s=0.1))
    assert after_status(made, 503, rest) == pause


def test_an_attempt_s_own_time_is_followed_by_another_the_caller_s_is_not():
    made = call("GET", retry=Retry(attempt_timeout_s=0.1))
    assert made.attempt_s == 0.1
    assert made.after(made.broken(Broke.TIMEOUT, None, own_time=True)) is not None


def test_declared_attempts_are_within_the_same_budget():
    rules = HttpAttempts(HttpPlans(Retry(attempts=2, on=[500])), Budget(), at(0.0), Random(1))
    again = 0
    for _ in range(100):
        made = HttpCall(rules, "GET", repeatable=True)
        again += after_status(made, 500) is not None
    assert again <= FLOOR + RATIO * 100


def test_the_latency_quantile_is_the_method_s():
    now = [0.0]
    declared = {"retry": Retry(hedge_quantile=0.5)}
    rules = HttpAttempts(HttpPlans(**declared), Budget(), lambda: now[0], Random(1))
    for method, seconds in (("GET", 0.1), ("PUT", 1.0)):
        for _ in range(200):
            made = HttpCall(rules, method, repeatable=True)
            made.course.ended(now[0], Ended(200, good=True))
            now[0] += seconds
            made.answered(200, None, None)
    for method, seconds in (("GET", 0.1), ("PUT", 1.0)):
        hedge_s = HttpCall(rules, method, repeatable=True).course.next_at - now[0]
        assert seconds <= hedge_s <= 1.06 * seconds  # a step of the histogram is 5 %


def test_an_answer_that_loses_is_not_counted_for_the_latency():
    now = [0.0]
    declared = {"retry": Retry(hedge_quantile=0.9)}
    rules = HttpAttempts(HttpPlans(**declared), Budget(), lambda: now[0], Random(1))
    for _ in range(200):
        made = HttpCall(rules, "GET", repeatable=True)
        made.course.ended(now[0], Ended(200, good=True))
        now[0] += 0.1
        made.answered(200, None, None)
        now[0] += 0.9
        made.answered(200, None, None)  # in a thread, which can't be cancelled
    hedge_s = HttpCall(rules, "GET", repeatable=True).course.next_at - now[0]
    assert 0.1 <= hedge_s <= 1.06 * 0.1


@pytest.mark.parametrize(
    ("declared", "named"),
    [
        ({"retry": 3}, "retry=3"),
        ({"retries": {"GET": 3}}, "retries['GET']=3"),
        ({"retries": {"get": Retry(on=[503])}}, "'get'"),
        ({"retry": Retry(on=["INTERNAL"])}, "on=[13]"),
        ({"retry": Retry(on=[200])}, "on=[200]"),
    ],
)
def test_a_wrong_declaration_is_refused_by_name(declared, named):
    with pytest.raises(ConfigError, match=re.escape(named)):
        HttpPlans(**declared)
