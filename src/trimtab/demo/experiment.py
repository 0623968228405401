"""What the demo does, in numbers: servers, load, phases, and what counts as measured.

The slow server is one of the first, so that every kind of channel meets it. The load is chosen so
that an even share of it (1/8 of 600/s = 75/s) is a little more than the slow server can do
(4 workers / 60 ms = 67/s): with less load, round robin would do better.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from random import Random

from trimtab.errors import ConfigError

SHORTEST_S = 4.0
LONGEST_S = 3600.0
TYPICAL_SEED = 13  # its pinned channels fall 5, 7, 5 (the slow server), 3: the median of all seeds


class Mode(enum.Enum):
    """How the channels of a phase spread their requests. The order is the order of the phases."""

    PINNED = "pinned"
    ROUND_ROBIN_STALE = "round_robin_stale"
    ROUND_ROBIN = "round_robin"
    TRIMTAB = "trimtab"


@dataclass(frozen=True, slots=True)
class Experiment:
    """One demo's parameters.

    Attributes:
        seconds: how long load is sent in all phases together.
        seed: of the arrival schedule and of the servers that pinned channels get.
        rate: requests per second, all channels together.
        channels: client channels, shared out over the load processes.
        load_processes: processes that send.
        servers: how many there are after the scale-up.
        first_servers: how many there are before it.
        slow_server: index of the slow one.
        slow_factor: how much slower it is.
        workers: requests that one server works on at a time; further ones wait in its queue.
        service_s: seconds of work per request.
        deadline_s: seconds after which a request is given up, counted from its scheduled arrival.
    """

    seconds: float = 24.0
    seed: int = TYPICAL_SEED
    rate: float = 600.0
    channels: int = 20
    load_processes: int = 2
    servers: int = 8
    first_servers: int = 4
    slow_server: int = 2
    slow_factor: float = 3.0
    workers: int = 4
    service_s: float = 0.020
    deadline_s: float = 2.0

    def __post_init__(self) -> None:
        if not SHORTEST_S <= self.seconds <= LONGEST_S:
            raise ConfigError(
                f"demo: seconds {self.seconds:g} is not from {SHORTEST_S:g} to {LONGEST_S:g}; "
                "it is the time of all four phases together"
            )

    @property
    def phase_s(self) -> float:
        """Seconds for which one phase sends."""
        return self.seconds / len(Mode)

    @property
    def scale_up_s(self) -> float:
        """When the further servers appear, in seconds from a phase's start."""
        return 0.15 * self.phase_s

    @property
    def window(self) -> tuple[float, float]:
        """From when to when requests are measured, in seconds from a phase's start.

        It opens half a second after the scale-up (less in short runs), so that all servers are
        there for every request that counts and no mode is judged by how it connects; it ends with
        the phase. A request belongs to it by its scheduled arrival.
        """
        return self.scale_up_s + min(0.5, self.phase_s / 8), self.phase_s

    def in_window(self, at: float) -> bool:
        """Whether a request that is scheduled at ``at`` (seconds from the start) is measured."""
        begin, end = self.window
        return begin <= at < end

    def service_time(self, server: int) -> float:
        """Seconds that server ``server`` (from 0) works on a request."""
        return self.service_s * (self.slow_factor if server == self.slow_server else 1.0)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request: when it is due, in seconds from the phase's start, and through which channel."""

    at: float
    channel: int


def arrivals(experiment: Experiment) -> tuple[Arrival, ...]:
    """The requests of one phase: a Poisson stream, each through a channel drawn at random.

    It depends on the experiment alone, so every mode gets the same.
    """
    random = Random(f"arrivals {experiment.seed}")
    found: list[Arrival] = []
    at = random.expovariate(experiment.rate)
    while at < experiment.phase_s:
        found.append(Arrival(at, random.randrange(experiment.channels)))
        at += random.expovariate(experiment.rate)
    return tuple(found)


def pins(experiment: Experiment) -> tuple[int, ...]:
    """Which server each pinned channel gets when it connects.

    kube-proxy gives each new connection to a Service's address one of the endpoints of that moment
    at random (iptables mode: ``statistic --mode random``; nftables: ``numgen random``).
    """
    random = Random(f"pins {experiment.seed}")
    return tuple(random.randrange(experiment.first_servers) for _ in range(experiment.channels))
