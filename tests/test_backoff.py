from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.backoff import CAP_S, FIRST_S, Backoff


class Highest(Random):
    def random(self):
        return 1.0


def test_the_limit_doubles_from_a_tenth_of_a_second_to_thirty():
    backoff = Backoff(Highest())
    assert [round(backoff.next(), 3) for _ in range(11)] == [
        *(0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6),
        *(30.0, 30.0),
    ]


def test_a_healthy_stream_starts_it_anew():
    backoff = Backoff(Highest())
    for _ in range(5):
        backoff.next()
    backoff.reset()
    assert backoff.next() == FIRST_S


@given(st.integers(), st.integers(0, 5_000))
def test_no_delay_is_negative_or_past_the_cap(seed, failures):
    backoff = Backoff(Random(seed))
    for _ in range(failures):
        backoff.next()
    assert 0.0 <= backoff.next() <= CAP_S


def test_clients_that_lose_a_control_plane_together_come_back_spread_out():
    # 5,000 seventh attempts fall uniformly into 6.4 s: 64 bins of 78.1 expected, sd 8.8.
    bins = [0] * 64
    for seed in range(5_000):
        backoff = Backoff(Random(seed))
        for _ in range(6):
            backoff.next()
        bins[min(63, int(backoff.next() * 10))] += 1
    assert max(bins) <= 78.1 + 5 * 8.8


@pytest.mark.parametrize(("away_s", "soon"), [(1.0, 0.99), (2.0, 0.95)])
def test_after_a_restart_nearly_all_are_back_within_five_seconds_and_all_within_thirty(
    away_s, soon
):
    waits = []
    for seed in range(2_000):
        backoff, asked_at = Backoff(Random(seed)), 0.0
        while asked_at < away_s:
            asked_at += backoff.next()
        waits.append(asked_at - away_s)
    assert sum(wait <= 5.0 for wait in waits) >= soon * len(waits)
    assert max(waits) <= CAP_S
