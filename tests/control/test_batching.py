from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.control.batching import FIRST_WINDOW_S, LONGEST_WINDOW_S, Batching

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


def test_after_a_quiet_window_a_change_leaves_at_once_but_the_next_window_is_half_as_long():
    batching = Batching()
    churn(batching, "orders", seconds=1.0)
    now = 1.0
    while len(batching.due(now)) == 0 and batching.next_due() is not None:
        now = batching.next_due()
    now += LONGEST_WINDOW_S  # one window in which nothing happens
    assert batching.due(now) == []
    assert batching.changed("orders", now)
    assert not batching.changed("orders", now + 0.05)
    assert batching.next_due() == now + LONGEST_WINDOW_S / 2


def test_a_cluster_that_falls_quiet_is_forgotten_within_half_a_second():
    batching = Batching()
    churn(batching, "orders", seconds=1.0)
    while (due := batching.next_due()) is not None:
        batching.due(due)
        assert due < 2.0
    assert len(batching) == 0
    assert batching.changed("orders", 3.0)


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
