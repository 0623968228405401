"""How many pods does each policy need? A bisection over the number of pods, the load as it is."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random

from trimtab.errors import ConfigError
from trimtab.sim.figures import quantile
from trimtab.sim.run import RANDOM, Contestant, contestants, run_one, service_times
from trimtab.sim.scenario import MAX_PODS, Choice, Scenario

BASELINE = "round_robin"
_FIGURES = {
    "mean": "mean_ms",
    "p50": "p50_ms",
    "p90": "p90_ms",
    "p99": "p99_ms",
    "p99.9": "p999_ms",
}
_GOAL = re.compile(r"(mean|p50|p90|p99\.9|p99)\s*<\s*([0-9]*\.?[0-9]+)\s*(ms|s)")
_PARTS = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "p999_ms": 0.999}
_DRAWN = 20_000  # service times, to see what a goal is up against
_CLEARLY = 10.0  # standard deviations: what chance does to these and to the requests of a run
_MOST = 16  # times as many pods as the least that could do the work


@dataclass(frozen=True, slots=True)
class Goal:
    """Such as ``p99<60ms``.

    Attributes:
        text: as it was given.
        figure: which of ``Figures``.
        limit_ms: what it must be under [ms].
    """

    text: str
    figure: str
    limit_ms: float


@dataclass(frozen=True, slots=True)
class Need:
    """What a policy needs.

    Attributes:
        label: the policy.
        bound: it is a bound.
        pods: the fewest found that reach the goal; None: not even ``tried`` do.
        tried: the most that were tried.
        reached_ms: the figure with so many [ms].
        utilisation: of these.
    """

    label: str
    bound: bool
    pods: int | None
    tried: int
    reached_ms: float | None = None
    utilisation: float | None = None


def parse_goal(text: str) -> Goal:
    """Read it.

    Raises:
        ConfigError: it is no goal.
    """
    found = _GOAL.fullmatch(text.strip())
    if found is None or float(found[2]) <= 0.0:
        raise ConfigError(
            f"--pods-for {text!r}: is no goal; give mean, p50, p90, p99 or p99.9, <, and a "
            "latency, such as p99<60ms"
        )
    return Goal(
        text.strip(), _FIGURES[found[1]], float(found[2]) * (1000.0 if found[3] == "s" else 1)
    )


def needs(
    scenario: Scenario,
    goal: Goal,
    clock: Callable[[], float],
    progress: Callable[[str, int, float], None],
) -> list[Need]:
    """Search for every policy; ``round_robin`` is added where the scenario has none.

    Raises:
        ConfigError: the scenario's load would change with the pods, or no number of pods can reach
            the goal.
    """
    if scenario.load.loop == "closed":
        raise ConfigError("--pods-for: a closed loop has no fixed load; give an open one a rate")
    fixed = replace(
        scenario, load=replace(scenario.load, rho=None, rate=scenario.rate()), bounds=True
    )
    if not scenario.events:
        _require_possible(fixed, goal)
    rows = contestants(fixed)
    rows = [one for one in rows if one.choice is not RANDOM or not one.bound]
    if not any(one.label == BASELINE for one in rows):
        rows.insert(0, Contestant(BASELINE, Choice.named(BASELINE)))
    if not scenario.bounds:
        rows = [one for one in rows if not one.bound]
    return [_need(fixed, one, goal, clock, progress) for one in rows]


def saving(needed: list[Need]) -> Mapping[str, float]:
    """The part of round robin's pods that each policy saves, where both reach the goal."""
    pods = {need.label: need.pods for need in needed}
    base = pods.get(BASELINE)
    if base is None:
        return {}
    return {label: 1.0 - count / base for label, count in pods.items() if count is not None}


def _require_possible(scenario: Scenario, goal: Goal) -> None:
    """Refuse what an idle pod, the fastest of them, takes longer for: a search would last minutes, and find nothing.

    Raises:
        ConfigError: it does, beyond what chance could do.
    """
    servers = scenario.servers
    zones = (servers.zone_speed.get(zone, 1.0) for zone in servers.zones)
    fastest = max(servers.speed) * max(zones, default=1.0)
    draw = service_times(scenario.service, scenario.mean_s(), Random(0))
    alone = sorted(1000.0 * draw() / fastest for _ in range(_DRAWN))
    requests = scenario.rate() * (scenario.length_s() - scenario.measured_from_s())
    root = math.sqrt(max(1.0, min(_DRAWN, requests)))
    part = _PARTS.get(goal.figure)
    if part is None:
        least = statistics.fmean(alone) - _CLEARLY * statistics.pstdev(alone) / root
    else:
        rank = part - _CLEARLY * math.sqrt(part * (1.0 - part)) / root
        least = quantile(alone, max(0.0, rank)) or 0.0
    if least >= goal.limit_ms:
        raise ConfigError(
            f"--pods-for {goal.text!r}: no number of pods reaches that, since the work alone takes longer "
            f"(mean {statistics.fmean(alone):.3g} ms, p99 {quantile(alone, 0.99):.3g} ms); "
            "give a longer time"
        )


def _need(
    scenario: Scenario,
    one: Contestant,
    goal: Goal,
    clock: Callable[[], float],
    progress: Callable[[str, int, float], None],
) -> Need:
    each = scenario.servers.capacity() / scenario.servers.total
    least = math.floor(scenario.rate() * scenario.mean_s() / each) + 1
    seen: dict[int, tuple[float | None, float]] = {}

    def reached(pods: int) -> bool:
        sized = with_pods(scenario, pods)
        runs = []
        for seed in scenario.seeds:
            progress(f"{one.label}, {pods} pods", seed, 0.0)
            runs.append(run_one(sized, one.choice, seed, clock))
        values = [v for run in runs if (v := getattr(run, goal.figure)) is not None]
        value = sum(values) / len(values) if len(values) == len(runs) else None
        seen[pods] = (value, sum(run.utilisation for run in runs) / len(runs))
        return value is not None and value < goal.limit_ms

    low, high = least - 1, least  # low does not reach it: it can't even do the work
    most = min(MAX_PODS, least * _MOST)
    step = max(1, least // 8)
    while not reached(high):
        low = high
        if high >= most:
            return Need(one.label, one.bound, None, high)
        high = min(most, high + step)
        step *= 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    value, utilisation = seen[high]
    return Need(one.label, one.bound, high, max(seen), value, utilisation)


def with_pods(scenario: Scenario, pods: int) -> Scenario:
    """The same with another number of pods, spread over the zones as before."""
    servers = scenario.servers
    if servers.count is not None:
        return replace(scenario, servers=replace(servers, count=pods))
    total = servers.total
    exact = {zone: pods * n / total for zone, n in servers.zones.items()}
    zones = {zone: int(share) for zone, share in exact.items()}
    by_rest = sorted(zones, key=lambda zone: zones[zone] - exact[zone])
    for zone in by_rest[: pods - sum(zones.values())]:
        zones[zone] += 1
    return replace(scenario, servers=replace(servers, zones=zones))
