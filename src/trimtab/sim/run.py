"""Runs a scenario: every policy with every seed, each in a world of its own.

The same seed gives all policies the same clients, pods, arrivals and events.
"""

from __future__ import annotations

import gc
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, cycle
from pathlib import Path
from random import Random
from statistics import fmean, stdev

from trimtab.sim import bounds
from trimtab.sim.engine import Client, Engine
from trimtab.sim.events import Stage
from trimtab.sim.figures import Figures, figures
from trimtab.sim.fleet import Fleet
from trimtab.sim.scenario import Choice, Network, Scenario, Service, places
from trimtab.sim.service_time import Draw, bimodal, constant, exponential, lognormal, traced
from trimtab.sim.traces import read_trace

RANDOM = Choice.named("random", judges=False)
STEPS = 40  # reports of progress for each run

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Row:
    """What one policy came to.

    Attributes:
        label: its name.
        bound: it is a bound, and none of the scenario's policies.
        runs: one for each seed.
    """

    label: str
    bound: bool
    runs: tuple[Figures, ...]

    def mean(self, name: str) -> float | None:
        """The mean of a figure over the seeds; None if a run has none."""
        values = self._values(name)
        return fmean(values) if len(values) == len(self.runs) else None

    def sd(self, name: str) -> float | None:
        """Its standard deviation over the seeds; None of fewer than two."""
        values = self._values(name)
        return stdev(values) if len(values) == len(self.runs) > 1 else None

    def _values(self, name: str) -> list[float]:
        found = (getattr(run, name) for run in self.runs)
        return [value for value in found if value is not None]


@dataclass(frozen=True, slots=True)
class Contestant:
    """A row to be: a policy, or None for global knowledge."""

    label: str
    choice: Choice | None
    bound: bool = False


def contestants(scenario: Scenario) -> list[Contestant]:
    """The scenario's policies, and the bounds around them."""
    rows = [Contestant(choice.label, choice) for choice in scenario.policies]
    if not scenario.bounds:
        return rows
    if all(choice.config != RANDOM.config for choice in scenario.policies):
        taken = any(choice.label == RANDOM.label for choice in scenario.policies)
        label = f"{RANDOM.label} (judges=false)" if taken else RANDOM.label
        rows.insert(0, Contestant(label, RANDOM, bound=True))
    return [*rows, Contestant(bounds.LABEL, None, bound=True)]


def run(
    scenario: Scenario, clock: Callable[[], float], progress: Callable[[str, int, float], None]
) -> list[Row]:
    """All of it.

    Args:
        scenario: what.
        clock: real time, for the simulator's own speed.
        progress: told the row's label, the seed and the part done.

    Raises:
        ConfigError: a trace can't be read.
    """
    rows = []
    for one in contestants(scenario):
        runs = []
        for seed in scenario.seeds:

            def told(part: float, label: str = one.label, seed: int = seed) -> None:
                progress(label, seed, part)

            runs.append(run_one(scenario, one.choice, seed, clock, told))
        rows.append(Row(one.label, one.bound, tuple(runs)))
    return rows


def run_one(
    scenario: Scenario,
    choice: Choice | None,
    seed: int,
    clock: Callable[[], float],
    progress: Progress = lambda _part: None,
) -> Figures:
    """One policy with one seed; ``choice`` None is global knowledge."""
    length, begin = scenario.length_s(), scenario.measured_from_s()
    started = clock()
    draws = Random(f"{seed} service")
    engine = Engine(
        draw=service_times(scenario.service, scenario.mean_s(), draws),
        random=Random(f"{seed} arrivals"),
        delay=delays(scenario.network),
        warmup_s=begin,
    )
    fleet = Fleet(engine, scenario.servers, Random(f"{seed} events"))
    _add_clients(engine, scenario, choice, seed)
    fleet.publish()
    stage = Stage(engine, fleet, length)
    for event in scenario.events:
        stage.plan(event)
    _add_load(engine, scenario, Random(f"{seed} clients"))
    busy: list[float] = []
    engine.at(begin, lambda: busy.append(fleet.busy_s()))
    engine.at(length, lambda: busy.append(fleet.busy_s()))
    with _no_collector():
        for step in range(1, STEPS + 1):
            engine.run(length * step / STEPS)
            progress(step / STEPS)
        engine.run()
    there = fleet.workers_s(begin, length)
    sent = sum(pod.sent for pod in fleet.all)
    return figures(
        engine.tally,
        begin_s=begin,
        end_s=length,
        moments=sorted(stage.moments),
        pods=list(dict.fromkeys(pod.endpoint.address for pod in fleet.all)),
        utilisation=(busy[1] - busy[0]) / there if there else 0.0,
        speed=sent / max(clock() - started, 1e-9),
    )


def service_times(service: Service, mean_s: float, random: Random) -> Draw:
    """What draws them.

    Raises:
        ConfigError: a trace can't be read.
    """
    if service.shape == "constant":
        return constant(mean_s)
    if service.shape == "lognormal":
        return lognormal(mean_s, service.sigma, random)
    if service.shape == "bimodal":
        return bimodal(mean_s, service.slow_part, service.slow_factor, random)
    if service.file is not None:
        trace = read_trace(Path(service.file))
        scale = mean_s / trace.mean_s
        return traced([x * scale for x in trace.latencies], random)
    if service.samples_ms:
        scale = mean_s * len(service.samples_ms) / sum(service.samples_ms)
        return traced([x * scale for x in service.samples_ms], random)
    return exponential(mean_s, random)


def delays(network: Network) -> Callable[[str, str], float]:
    """One way from zone to zone [s]."""
    within, between = network.within_zone_ms / 1000.0, network.between_zones_ms / 1000.0
    return lambda here, there: within if here == there else between


def _add_clients(engine: Engine, scenario: Scenario, choice: Choice | None, seed: int) -> None:
    model = scenario.clients
    shared = bounds.GlobalKnowledge(Random(f"{seed} global")) if choice is None else None
    for i, zone in enumerate(places(model.count, model.zones)):
        if shared is None:
            assert choice is not None  # noqa: S101 - shared is made where it is None
            client = engine.add_client(zone, choice.config, Random(f"{seed} client {i}"))
        else:
            client = Client(zone, shared)
            engine.clients.append(client)
        client.share = model.rates[i % len(model.rates)] * model.zone_rates.get(zone, 1.0)


def _add_load(engine: Engine, scenario: Scenario, random: Random) -> None:
    length, load = scenario.length_s(), scenario.load
    if load.loop == "closed":
        think = exponential(load.think_ms / 1000.0, random)
        for client in engine.clients:
            engine.closed_loop(client, load.callers or 1, think, length)
    elif load.arrivals is not None:
        gaps = read_trace(Path(load.arrivals)).gaps
        scale = len(gaps) / sum(gaps) / scenario.rate()
        follow = cycle(gaps)
        engine.arrivals(
            lambda: next(follow) * scale / engine.rate_factor,
            length,
            chooser(engine.clients, random),
        )
    else:
        engine.open_loop(scenario.rate(), length, chooser(engine.clients, random))


def chooser(clients: Sequence[Client], random: Random) -> Callable[[], Client]:
    """Draws clients in proportion to their shares."""
    draw, n = random.random, len(clients)
    shares = [client.share for client in clients]
    if min(shares) == max(shares):
        return lambda: clients[int(draw() * n)]
    sums = list(accumulate(shares))
    total = sums[-1]
    return lambda: clients[min(bisect_right(sums, draw() * total), n - 1)]


@contextmanager
def _no_collector() -> Iterator[None]:
    """Nothing in a run is cyclic garbage, and looking for it costs a tenth of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
