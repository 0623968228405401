from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trimtab.control.batching import FIRST_WINDOW_S, LONGEST_WINDOW_S, REST_S, Batching

STEP = 0.001


def churn(batching, cluster, *, seconds, start=0.0):
    """Change a cluster every millisecond; the times at which news of it leave."""
    left = []
    for tick in range(int(seconds / STEP)):
        now = start + tick * STEP
        left += [now for due in batching.due(now) if due == cluster]
        if batching.changed(cluster, now):
            left.append(now)
    return left


def test_the_first_change_of_a_quiet_cluster_leaves_at_once():
    assert Batching().changed("orders", 5.0)


def test_a_change_right_after_another_is_held_until_the_window_ends():
    batching = Batching()
    batching.changed("orders", 0.0)
    assert not batching.changed("orders", 0.001)
    assert batching.due(0.009) == []
    assert batching.next_due() == FIRST_WINDOW_S
    assert batching.due(FIRST_WINDOW_S) == ["orders"]


def test_many_held_changes_leave_as_one():
    batching = Batching()
    for i in range(9):
        batching.changed("orders", i * STEP)
    assert batching.due(FIRST_WINDOW_S) == ["orders"]
    assert batching.due(1.0) == []


def test_under_churn_windows_double_from_10_to_200_ms():
    left = churn(Batching(), "orders", seconds=1.5)
    gaps = [b - a for a, b in pairwise(left)]
    assert gaps[:6] == pytest.approx([0.01, 0.02, 0.04, 0.08, 0.16, 0.2], abs=1.5 * STEP)
    assert gaps[6:] == pytest.approx([LONGEST_WINDOW_S] * (len(gaps) - 6), abs=1.5 * STEP)


def test_churn_of_one_cluster_does_not_hold_up_another():
    batching = Batching()
    churn(batching, "busy", seconds=1.0)
    assert batching.changed("quiet", 1.0)


@pytest.mark.parametrize("period", [0.0105, 0.0155, 0.021, 0.03, 0.05, 0.07])
def test_steady_changes_that_miss_every_window_are_churn_too(period):
    batching = Batching()
    left = []
    for i in range(int(4 / period)):
        now = i * period
        while (due := batching.next_due()) is not None and due <= now:
            left += [due] * len(batching.due(due))
        if batching.changed("orders", now):
            left.append(now)
    assert len([t for t in left if t < 1]) <= 10
    assert len([t for t in left if 3 <= t < 4]) <= 6


def test_a_cluster_that_changes_less_than_ten_times_a_second_is_never_held():
    batching = Batching()
    for i in range(50):
        now = i * 0.12
        while (due := batching.next_due()) is not None and due <= now:
            batching.due(due)
        assert batching.changed("orders", now)


def test_each_undisturbed_rest_halves_the_window_until_the_cluster_is_quiet():
    batching = Batching()
    churn(batching, "orders", seconds=1.0)
    end = batching.next_due()
    assert batching.due(end) == ["orders"]  # opens one of 200 ms, in which nothing comes
    rest = end + LONGEST_WINDOW_S
    batching.due(rest)
    assert batching.next_due() == pytest.approx(rest + REST_S)
    batching.due(batching.next_due())
    assert batching.changed("orders", rest + REST_S + STEP)
    assert not batching.changed("orders", rest + REST_S + 2 * STEP)
    while not batching.due(now := batching.next_due()):
        pass
    assert now == pytest.approx(rest + REST_S + STEP + LONGEST_WINDOW_S)
    halved = Batching()
    churn(halved, "orders", seconds=1.0)
    while len(halved):
        halved.due(now := halved.next_due())
    assert now == pytest.approx(1.0 + 2 * LONGEST_WINDOW_S + 5 * REST_S, abs=LONGEST_WINDOW_S)
    assert halved.changed("orders", 3.0)
    assert halved.next_due() == 3.0 + FIRST_WINDOW_S


# Those that find the cluster quiet each time, and a burst.
SLOW_THEN_FAST = [0.161, *[0.111] * 4, 0.001, 0.0201, 0.081, 0.0201, 0.101, 0.161, 0.001, 0.161]


@settings(max_examples=300)
@example(SLOW_THEN_FAST)
@given(st.lists(st.sampled_from([0.001, 0.0101, 0.0201, 0.041, 0.081, 0.101, 0.111, 0.161, 0.201])))
def test_no_pattern_of_changes_makes_a_cluster_leave_more_than_ten_times_in_a_second(pauses):
    batching = Batching()
    left = []
    now = 0.0
    for pause in [*pauses, 1.0]:
        if batching.changed("orders", now):
            left.append(now)
        now += pause
        while (due := batching.next_due()) is not None and due <= now:
            left += [due] * len(batching.due(due))
    for i, begin in enumerate(left):
        assert len([t for t in left[i:] if t < begin + 1.0]) <= 10


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.floats(min_value=0, max_value=0.3)),
        min_size=1,
        max_size=60,
    )
)
def test_every_change_leaves_within_200_ms_whatever_the_order(steps):
    batching = Batching()
    waiting: dict[str, float] = {}
    now = 0.0
    for cluster, pause in steps:
        target = now + pause
        while (due := batching.next_due()) is not None and due <= target:
            for leaving in batching.due(due):
                assert due - waiting.pop(leaving) <= LONGEST_WINDOW_S + 1e-9
        now = target
        if batching.changed(cluster, now):
            waiting.pop(cluster, None)
        else:
            waiting.setdefault(cluster, now)
    while (due := batching.next_due()) is not None:
        for leaving in batching.due(due):
            assert due - waiting.pop(leaving) <= LONGEST_WINDOW_S + 1e-9
    assert waiting == {}
    assert len(batching) == 0
