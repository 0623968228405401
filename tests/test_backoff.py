from collections import Counter
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
def test_no_delay_is_past_its_limit_or_below_a_quarter_of_it(seed, failures):
    backoff = Backoff(Random(seed))
    for _ in range(failures):
        backoff.next()
    limit = min(CAP_S, FIRST_S * 2 ** min(failures, 10))
    assert limit / 4 <= backoff.next() <= limit


def test_clients_that_lose_a_control_plane_together_come_back_spread_out():
    # 5,000 seventh attempts fall uniformly into 1.6 to 6.4 s: 48 bins of 104.2 expected, sd 10.1.
    bins = [0] * 64
    for seed in range(5_000):
        backoff = Backoff(Random(seed))
        for _ in range(6):
            backoff.next()
        bins[min(63, int(backoff.next() * 10))] += 1
    assert max(bins) <= 104.2 + 5 * 10.1


def waits_after(away_s, clients):
    """How long after its return [s] each client asks a server that was away for so long."""
    found = []
    for seed in range(clients):
        backoff, asked_at = Backoff(Random(seed)), 0.0
        while asked_at < away_s:
            asked_at += backoff.next()
        found.append(asked_at - away_s)
    return found


@pytest.mark.parametrize(("away_s", "latest_s"), [(1.0, 3.2), (2.0, 6.4)])
def test_after_a_restart_all_are_back_within_seconds(away_s, latest_s):
    """Each delay is a quarter of its limit at least: in 1 s (2 s) fit five (six), and the next has that limit."""
    assert max(waits_after(away_s, 2_000)) <= latest_s


def test_after_a_long_absence_no_second_has_twice_the_average():
    """Row N7: over the 30 s of the longest delay; of 20,000 a second has 667, sd 26."""
    seconds = Counter(map(int, waits_after(40.0, 20_000)))
    assert max(seconds) < CAP_S
    assert max(seconds.values()) < 2 * 20_000 / CAP_S - 5 * 26
