"""Pods saved: how many pods each policy needs for one p99, in the scenario `reference-pods`.

Each goal is what `trimtab simulate reference-pods --pods-for GOAL` prints: 256 erlang of work (25,600
requests/s of 10 ms, exponential) from 100 clients, on pods of 4 workers. A bisection over the number of
pods, two seeds at each. Savings are against `round_robin` per request.
"""

from __future__ import annotations

import argparse
import math
import time

from machine import publish
from trimtab.sim import bounds, library
from trimtab.sim.scenario import Scenario
from trimtab.sim.sizing import BASELINE, Need, needs, parse_goal, saving

OURS = "token"
GOALS = (("p99<60ms", 0.18), ("p99<52.5ms", 0.24))


def section(scenario: Scenario, goal: str, target: float) -> str:
    needed = needs(scenario, parse_goal(goal), time.perf_counter, lambda *_: None)
    saved = saving(needed)
    rows = ["| | pods | saved | p99 there, ms | workers busy |", "|---|---|---|---|---|"]
    rows += [row(need, saved.get(need.label)) for need in needed]
    return (
        f"## `{goal}`\n\n"
        + "\n".join(rows)
        + "\n\n"
        + verdict(scenario, needed, saved[OURS], target)
    )


def row(need: Need, saved: float | None) -> str:
    if need.pods is None or saved is None:
        return f"| {need.label} | more than {need.tried} | | | |"
    return (
        f"| {need.label} | {need.pods} | {saved:.1%} | {need.reached_ms:.1f} | "
        f"{need.utilisation:.0%} |"
    )


def verdict(scenario: Scenario, needed: list[Need], saved: float, target: float) -> str:
    pods = {need.label: need.pods for need in needed}
    base = pods[BASELINE]
    assert base is not None
    erlang = scenario.rate() * scenario.mean_s()
    least = math.floor(erlang / scenario.servers.workers) + 1
    known = pods[bounds.LABEL]
    return (
        f"`{OURS}` saves {saved:.1%}, target at least {target:.0%}: "
        f"{'reached' if saved >= target else 'missed'}. {erlang:g} erlang keep {erlang / scenario.servers.workers:g} pods busy "
        f"all the time, so no policy can do with fewer than {least}, which is {1 - least / base:.1%}"
        f" saved; global knowledge needs {known}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", metavar="FILE", help="write the page to FILE as well")
    args = parser.parse_args()
    _, scenario = library.find("reference-pods")
    parts = [section(scenario, goal, target) for goal, target in GOALS]
    publish(
        "Pods saved",
        f"How many pods each policy needs for one p99. {__doc__.split(chr(10), 2)[2].strip()}\n\n"
        "It is a comparison of policies, not a size to run: pods that are busy all the time leave no room "
        "for the loss of one.\n\n" + "\n\n".join(parts),
        args.write,
    )


if __name__ == "__main__":
    main()
