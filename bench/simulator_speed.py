"""How many requests a second the simulator gets through, on one core.

The library's ``even-100x100``: 100 clients with a production balancer each, 100 pods of 4 workers. Speed
is requests by processor seconds; the best of several runs, since a shared core only makes it less. The
profile, of a run of its own, says where the time goes: cProfile makes calls dearer than they are.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
import time
from pathlib import Path

from machine import publish
from trimtab.sim import library
from trimtab.sim.run import run_one
from trimtab.sim.scenario import Choice

SCENARIO = "even-100x100"
CASES = (
    ("p2c without judges", Choice.named("p2c", judges=False)),
    ("p2c", Choice.named("p2c")),
    ("token", Choice.named("token")),
    ("JSQ, global knowledge", None),
)
TARGET, TARGET_CASE = 50_000, "p2c"
SHOWN = 12


def profile(choice: Choice | None) -> str:
    scenario = library.find(SCENARIO)[1]
    profiler = cProfile.Profile()
    profiler.runcall(run_one, scenario, choice, 1, time.process_time)
    stats = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    whole = sum(row[2] for row in stats.values())
    rows = sorted(stats.items(), key=lambda item: item[1][2], reverse=True)[:SHOWN]
    lines = ["| function | calls per request | part of the time |", "|---|---|---|"]
    requests = scenario.requests or 1
    for (file, line, name), (calls, _, own, *_) in rows:
        where = f"{Path(file).name}:{line} {name}" if line else name.strip("<>")
        lines.append(f"| `{where}` | {calls / requests:.1f} | {100 * own / whole:.0f} % |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", metavar="FILE", help="write the page to FILE as well")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    scenario = library.find(SCENARIO)[1]
    rows = ["| policy | requests/s, best | median |", "|---|---|---|"]
    best = {}
    for label, choice in CASES:
        speeds = [
            run_one(scenario, choice, seed, time.process_time).speed for seed in range(options.runs)
        ]
        best[label] = max(speeds)
        rows.append(f"| {label} | {max(speeds):,.0f} | {statistics.median(speeds):,.0f} |")
    reached = best[TARGET_CASE]
    word = "reached" if reached >= TARGET else "missed"
    table = "\n".join(rows)
    publish(
        "How fast the simulator is",
        f"Scenario `{SCENARIO}`, {scenario.requests:,} requests; {options.runs} runs of each policy.\n\n"
        f"{table}\n\n"
        f"Target: at least {TARGET:,} with {TARGET_CASE}; {word} ({reached:,.0f}).\n\n"
        f"## Where {TARGET_CASE}'s time goes\n\n{profile(dict(CASES)[TARGET_CASE])}",
        options.write,
    )


if __name__ == "__main__":
    main()
