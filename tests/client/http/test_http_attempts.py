"""What the end of an HTTP attempt means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.attempt.budget import FLOOR, RATIO, Budget
from trimtab.client.http_attempts import (
    MOST_TRIES,
    Broke,
    HttpCall,
    outcome_of_http,
    report_of_http,
)
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


@pytest.mark.parametrize("method", ["POST", "PATCH", "CONNECT"])
def test_what_may_have_been_done_is_not_done_twice(method):
    call = HttpCall(Budget(), method, repeatable=True)
    assert not call.after_break(Broke.LOST)
    assert not call.after_answer(503)


def test_a_body_that_can_t_be_read_twice_is_not_sent_twice():
    assert not HttpCall(Budget(), "PUT", repeatable=False).after_break(Broke.LOST)


def test_what_reached_nobody_goes_elsewhere_whatever_it_is_but_not_for_ever():
    call = HttpCall(Budget(), "POST", repeatable=False)
    assert [call.after_break(Broke.UNREACHED) for _ in range(MOST_TRIES)] == [
        *[True] * (MOST_TRIES - 1),
        False,
    ]


@pytest.mark.parametrize("broke", [Broke.TIMEOUT, Broke.LOCAL, Broke.FAULTY])
def test_what_is_the_caller_s_or_too_late_ends(broke):
    assert not HttpCall(Budget(), "GET", repeatable=True).after_break(broke)
