"""The demo's figures over several seeds: median and range per mode.

One run is one draw: which servers the pinned channels get decides most of their line. The seeds are
run one after the other, each with all four modes, so that a slow moment of the machine hits all.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

from machine import publish

BUSY_MS = 5.0  # as the demo itself judges
MODES = ("pinned", "round_robin_stale", "round_robin", "trimtab")
COLUMNS = {  # heading: (key, factor, digits)
    "max/mean": ("max_over_mean", 1, 2),
    "CV": ("cv", 1, 2),
    "p50 ms": ("p50_ms", 1, 0),
    "p90 ms": ("p90_ms", 1, 0),
    "p99 ms": ("p99_ms", 1, 0),
    "p99.9 ms": ("p999_ms", 1, 0),
    "errors %": ("error_rate", 100, 1),
}


def run(seed: int, seconds: float, directory: Path) -> dict[str, Any]:
    file = directory / f"{seed}.json"
    command = [sys.executable, "-m", "trimtab", "demo"]
    options = ["--seconds", str(seconds), "--seed", str(seed), "--json", str(file)]
    subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
    return json.loads(file.read_text())


def cell(values: list[float | None], factor: float, digits: int) -> str:
    known = [value * factor for value in values if value is not None]
    if not known:
        return "-"
    low, high = min(known), max(known)
    return f"{statistics.median(known):,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"


def table(runs: list[dict[str, Any]]) -> str:
    rows = ["| mode | " + " | ".join(COLUMNS) + " | slow server's share % |"]
    rows.append("|---|" + "---|" * (len(COLUMNS) + 1))
    slow = runs[0]["experiment"]["slow_server"] - 1
    for mode in MODES:
        found = [r["modes"][mode] for r in runs]
        cells = [
            cell([figures[key] for figures in found], factor, digits)
            for key, factor, digits in COLUMNS.values()
        ]
        counts = [figures["requests_per_server"] for figures in found]
        cells.append(cell([c[slow] / sum(c) for c in counts], 100, 1))
        rows.append(f"| {mode} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def summary(setting: dict[str, Any]) -> str:
    begin, end = setting["window_s"]
    return textwrap.fill(
        f"{setting['servers']} servers with {setting['workers_per_server']} workers and "
        f"{min(setting['service_ms']):g} ms of work per request, server {setting['slow_server']} "
        f"with {max(setting['service_ms']):g} ms; {setting['first_servers']} of them at first, all "
        f"after {setting['scale_up_s']:g} s of each phase; {setting['requests_per_s']:g} requests/s "
        f"through {setting['channels']} channels. Measured are the requests that were due from "
        f"{begin:g} s to {end:g} s of their phase, from the moment they were due; the deadline is "
        f"{setting['deadline_s']:g} s. p99.9 needs 10,000 requests. See docs/guides/demo.md.",
        100,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", metavar="FILE", help="write the page to FILE as well")
    parser.add_argument("--seconds", type=float, default=24.0, help="of load per run")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 1 to N")
    options = parser.parse_args()

    runs = []
    with tempfile.TemporaryDirectory() as directory:
        for seed in range(1, options.seeds + 1):
            print(f"seed {seed} of {options.seeds}", file=sys.stderr, flush=True)
            runs.append(run(seed, options.seconds, Path(directory)))

    setting = runs[0]["experiment"]
    details = [d for r in runs for d in r["details"].values()]
    lags = [d["client_lag_p99_ms"] for d in details]
    overruns = [d["server_overrun_p99_ms"] for d in details]
    busy = sum(max(pair) > BUSY_MS for pair in zip(lags, overruns, strict=True))
    learnt = [r["details"]["trimtab"]["learnt_ms"] for r in runs]
    requests = [r["modes"]["trimtab"]["requests"] for r in runs]
    body = f"""Median over {options.seeds} seeds (1 to {options.seeds}), range in brackets;
{min(requests):,} to {max(requests):,} requests per mode and seed.

{table(runs)}

{summary(setting)}

- `pinned` and `round_robin_stale` know the first {setting["first_servers"]} servers only,
  `round_robin` is told of all by the bench itself, `trimtab` by the control plane: the first request
  reached a new server {cell(learnt, 1, 0)} ms after the manifest was written.
- An even share of the load ({setting["requests_per_s"] / setting["servers"]:g}/s) is a little more
  than the slow server can do ({setting["workers_per_server"] / max(setting["service_ms"]) * 1e3:.0f}/s).
  That favours whatever adapts. With equal servers, round robin over all of them is as even as it gets.
- The machine's own delays: {busy} of {len(details)} phases had a p99 of more than {BUSY_MS:g} ms by
  which requests left late (median over the phases {statistics.median(lags):.1f} ms) or work took too
  long ({statistics.median(overruns):.1f} ms).
"""
    publish("The demo over several seeds", body, options.write, "grpcio")


if __name__ == "__main__":
    main()
