"""The schedule and the window: what every mode gets alike."""

import itertools
import math
import statistics

import pytest

from trimtab.demo.experiment import Experiment, Mode, arrivals, pins
from trimtab.errors import ConfigError


def test_a_seed_always_gives_the_same_requests():
    assert arrivals(Experiment(seed=7)) == arrivals(Experiment(seed=7))
    assert pins(Experiment(seed=7)) == pins(Experiment(seed=7))


def test_another_seed_gives_other_requests():
    assert arrivals(Experiment(seed=7)) != arrivals(Experiment(seed=8))
    assert pins(Experiment(seed=7)) != pins(Experiment(seed=8))


def test_requests_come_at_the_promised_rate_all_through_the_phase():
    experiment = Experiment(seconds=40.0, seed=3)
    found = arrivals(experiment)
    expected = experiment.rate * experiment.phase_s
    assert abs(len(found) - expected) < 4 * math.sqrt(expected)  # Poisson: sigma = sqrt(mean)
    assert all(a.at <= b.at for a, b in itertools.pairwise(found))
    assert found[0].at > 0
    assert found[-1].at < experiment.phase_s
    gaps = [b.at - a.at for a, b in itertools.pairwise(found)]
    mean = sum(gaps) / len(gaps)
    spread = math.sqrt(sum((g - mean) ** 2 for g in gaps) / len(gaps)) / mean
    assert abs(spread - 1) < 4 / math.sqrt(len(gaps))  # exponential gaps have a CV of 1


def test_every_channel_sends_its_share():
    experiment = Experiment(seconds=40.0)
    found = arrivals(experiment)
    mean = len(found) / experiment.channels
    for channel in range(experiment.channels):
        sent = sum(arrival.channel == channel for arrival in found)
        assert abs(sent - mean) < 4.5 * math.sqrt(mean)


def test_pinned_channels_know_only_the_first_servers():
    for seed in range(50):
        assert set(pins(Experiment(seed=seed))) <= set(range(4))
        assert len(pins(Experiment(seed=seed))) == 20


def test_the_window_opens_after_the_scale_up_and_ends_with_the_phase():
    for seconds in (4.0, 8.0, 24.0, 80.0):
        experiment = Experiment(seconds=seconds)
        begin, end = experiment.window
        assert experiment.scale_up_s < begin <= experiment.scale_up_s + 0.5
        assert end == experiment.phase_s == seconds / len(Mode)
        assert experiment.in_window(begin)
        assert not experiment.in_window(end)
        assert not experiment.in_window(experiment.scale_up_s)


def test_one_server_of_the_first_is_three_times_slower():
    experiment = Experiment()
    assert [round(experiment.service_time(n) * 1e3) for n in range(8)] == [20, 20, 60] + [20] * 5


@pytest.mark.parametrize("seconds", [0.0, -1.0, 3.9, 3601.0, math.nan, math.inf])
def test_an_impossible_length_is_refused_with_the_value_and_the_range(seconds):
    with pytest.raises(ConfigError, match=r"seconds .* is not from 4 to 3600"):
        Experiment(seconds=seconds)


def test_the_default_seed_gives_pinned_channels_a_typical_draw():
    def busiest_and_slow(experiment):
        counts = [pins(experiment).count(server) for server in range(4)]
        return max(counts), counts[experiment.slow_server]

    draws = [busiest_and_slow(Experiment(seed=seed)) for seed in range(1000)]
    busiest, slow = busiest_and_slow(Experiment())
    assert busiest == statistics.median(draw[0] for draw in draws)
    assert slow == statistics.median(draw[1] for draw in draws)
