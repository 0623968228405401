"""Service times: how long one request occupies a worker, in seconds.

All have the same mean, so that scenarios compare the shape alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp, log
from random import Random

Draw = Callable[[], float]


def exponential(mean_s: float, random: Random) -> Draw:
    """Memoryless: the yardstick of queueing theory."""
    return lambda: -mean_s * log(1.0 - random.random())


def constant(mean_s: float) -> Draw:
    """Always the same."""
    return lambda: mean_s


def lognormal(mean_s: float, sigma: float, random: Random) -> Draw:
    """What real services look like; ``sigma`` is that of the logarithm (1: p99 is 6.2 means)."""
    mu = log(mean_s) - sigma * sigma / 2.0
    gauss = random.gauss
    return lambda: exp(gauss(mu, sigma))


def bimodal(mean_s: float, slow_part: float, slow_factor: float, random: Random) -> Draw:
    """A part of the requests takes ``slow_factor`` times as long as the others."""
    fast = mean_s / (1.0 - slow_part + slow_part * slow_factor)
    slow = fast * slow_factor
    return lambda: slow if random.random() < slow_part else fast


def traced(samples: Sequence[float], random: Random) -> Draw:
    """Draws from measured times."""
    return lambda: samples[int(random.random() * len(samples))]
