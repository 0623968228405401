"""The arithmetic of evenness and latency."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.demo.figures import (
    ENOUGH_FOR_P999,
    figures,
    max_over_mean,
    percentile,
    timeline,
    variation,
)

counts = st.lists(st.integers(0, 10_000), min_size=1, max_size=20).filter(sum)


def test_equal_counts_are_perfectly_even():
    assert max_over_mean([75] * 8) == 1.0
    assert variation([75] * 8) == 0.0


def test_one_server_with_everything_is_as_uneven_as_eight_allow():
    assert max_over_mean([600, 0, 0, 0, 0, 0, 0, 0]) == 8.0
    assert variation([600, 0, 0, 0, 0, 0, 0, 0]) == pytest.approx(math.sqrt(7))


def test_half_of_the_servers_idle_gives_a_variation_of_one():
    assert max_over_mean([150, 150, 150, 150, 0, 0, 0, 0]) == 2.0
    assert variation([150, 150, 150, 150, 0, 0, 0, 0]) == 1.0


def test_no_requests_have_no_evenness():
    assert max_over_mean([0, 0]) is None
    assert variation([0, 0]) is None


@given(counts)
def test_max_over_mean_lies_between_one_and_the_number_of_servers(found):
    assert 1 <= max_over_mean(found) <= len(found)


@given(counts, st.integers(2, 9))
def test_evenness_does_not_depend_on_the_amount(found, times):
    more = [n * times for n in found]
    assert max_over_mean(more) == pytest.approx(max_over_mean(found))
    assert variation(more) == pytest.approx(variation(found))


def test_a_percentile_is_a_latency_that_occurred():
    ordered = [float(n) for n in range(1, 101)]
    assert percentile(ordered, 0.50) == 50
    assert percentile(ordered, 0.90) == 90
    assert percentile(ordered, 0.99) == 99
    assert percentile(ordered, 1.0) == 100
    assert percentile([7.0], 0.01) == 7.0
    assert percentile([], 0.5) is None


@given(st.lists(st.floats(0, 10), min_size=1, max_size=300), st.floats(0.01, 1))
def test_at_least_that_share_of_the_latencies_is_not_above_a_percentile(latencies, q):
    value = percentile(sorted(latencies), q)
    assert sum(x <= value for x in latencies) >= q * len(latencies) - 1e-6
    assert sum(x < value for x in latencies) < q * len(latencies) + 1e-6


def test_a_failed_request_counts_with_the_time_until_it_failed():
    found = figures([0.02] * 98 + [2.0] * 2, failed=2, per_server=[50, 50])
    assert found.p99_ms == 2000
    assert found.p50_ms == 20
    assert found.error_rate == 0.02
    assert found.requests == 100


def test_the_thousandth_is_only_told_from_ten_thousand_requests_on():
    one_less = figures([0.02] * (ENOUGH_FOR_P999 - 1), failed=0, per_server=[1])
    enough = figures([0.02] * ENOUGH_FOR_P999, failed=0, per_server=[1])
    assert one_less.p999_ms is None
    assert enough.p999_ms == 20


def test_an_empty_window_has_no_figures_but_no_error_either():
    found = figures([], failed=0, per_server=[0, 0])
    assert (found.p50_ms, found.p99_ms, found.max_over_mean, found.cv) == (None,) * 4
    assert found.error_rate == 0.0


def test_the_timeline_puts_each_request_where_it_was_due():
    slots = timeline(
        [(0.10, 0.02, False), (0.20, 0.04, True), (0.30, 0.06, False), (0.9999, 1.0, False)],
        phase_s=1.0,
        width_s=0.25,
    )
    assert [slot.at_s for slot in slots] == [0.125, 0.375, 0.875]
    assert [slot.failed for slot in slots] == [1, 0, 0]
    assert slots[0].p50_ms == 20
    assert slots[0].p99_ms == 40
