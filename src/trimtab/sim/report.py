"""A result as JSON, and as words and numbers that table and page share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trimtab.sim.happenings import KINDS
from trimtab.sim.run import Row
from trimtab.sim.scenario import Scenario
from trimtab.sim.sizing import Goal, Need, saving

MEANT = ("mean_ms", "p50_ms", "p90_ms", "p99_ms", "p999_ms", "error_rate", "error_rate_after",
         "p99_after_ms", "max_over_mean", "utilisation", "crossed", "probes", "speed")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Report:
    """What a run came to.

    Attributes:
        name: the scenario's.
        scenario: as it was run.
        rows: one for each policy and bound.
    """

    name: str
    scenario: Scenario
    rows: Sequence[Row]

    def view(self) -> dict[str, Any]:
        """For programs."""
        return {
            "scenario": {"name": self.name, **_plain(self.scenario)},
            "policies": [
                {
                    "label": row.label,
                    "bound": row.bound,
                    **{name: row.mean(name) for name in MEANT},
                    "sd": {name: row.sd(name) for name in MEANT},
                    "runs": [asdict(run) for run in row.runs],
                }
                for row in self.rows
            ],
        }

    def json(self) -> str:
        """The same as text."""
        return json.dumps(self.view(), indent=2) + "\n"


def sizing_view(name: str, scenario: Scenario, goal: Goal, needed: list[Need]) -> dict[str, Any]:
    """What a search for pods came to, for programs."""
    saved = saving(needed)
    return {
        "scenario": {"name": name, **_plain(scenario)},
        "goal": goal.text,
        "policies": [{**asdict(need), "saving": saved.get(need.label)} for need in needed],
    }


def _plain(scenario: Scenario) -> dict[str, Any]:
    view = asdict(scenario)
    kinds = {cls: kind for kind, cls in KINDS.items()}
    view["events"] = [{"kind": kinds[type(event)], **asdict(event)} for event in scenario.events]
    view["policies"] = [
        {"label": c.label, "name": c.config.name, "params": dict(c.config.params)}
        for c in scenario.policies
    ]
    return view


def tells_after(report: Report) -> bool:
    """Whether there were requests shortly after an event."""
    return any(row.mean("p99_after_ms") is not None for row in report.rows)


def heads(report: Report) -> list[str]:
    """The columns after the policy."""
    scenario = report.scenario
    names = ["p50", "p90", "p99", "p99.9", "mean"]
    if scenario.events:
        names.append("errors")
    if tells_after(report):
        names += ["errors (2 s)", "p99 (2 s)"]
    names += ["max/mean", "used"]
    if scenario.clients.zones:
        names.append("cross-zone")
    return names


def cells(row: Row, report: Report) -> list[str]:
    """What stands under ``heads``; with several seeds mean ± standard deviation."""
    scenario = report.scenario
    shown = [_ms(row, name) for name in ("p50_ms", "p90_ms", "p99_ms", "p999_ms", "mean_ms")]
    if scenario.events:
        shown.append(_part(row, "error_rate", 2))
    if tells_after(report):
        shown += [_part(row, "error_rate_after", 2), _ms(row, "p99_after_ms")]
    evenness = row.mean("max_over_mean")
    shown += ["-" if evenness is None else f"{evenness:.2f}", _part(row, "utilisation", 0)]
    if scenario.clients.zones:
        shown.append(_part(row, "crossed", 1))
    return shown


def _ms(row: Row, name: str) -> str:
    value, sd = row.mean(name), row.sd(name)
    if value is None:
        return "-"
    digits = 0 if value >= 1000 else 1  # noqa: PLR2004 - a tenth of a millisecond in a second
    return f"{value:,.{digits}f}" + ("" if sd is None else f" ±{sd:,.{digits}f}")


def _part(row: Row, name: str, digits: int) -> str:
    value = row.mean(name)
    return "-" if value is None else f"{value:.{digits}%}"


def summary(scenario: Scenario) -> str:
    """The setting in a sentence or two."""
    clients, servers = scenario.clients, scenario.servers
    count = clients.count or sum(clients.zones.values())
    waits = "one queue" if servers.discipline == "fifo" else "shared processors"
    load = (
        f"{scenario.rate():,.0f} requests/s"
        if scenario.load.loop == "open"
        else f"{scenario.load.callers} callers in each client"
    )
    if scenario.load.loop == "open":
        load += f" ({scenario.rate() * scenario.mean_s() / servers.capacity():.0%} of capacity)"
    return (
        f"{_some(count, 'client')}, {_some(servers.total, 'pod')} with "
        f"{_some(servers.workers, 'worker')} each and {waits}; {load}; service times "
        f"{scenario.service.shape}, mean {scenario.mean_s() * 1000:.4g} ms; "
        f"{scenario.length_s():.3g} s simulated, the first {scenario.measured_from_s():.3g} s "
        f"left out; {_some(len(scenario.seeds), 'seed')}."
    )


def _some(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def speed(rows: Sequence[Row]) -> str:
    """How fast the simulator was."""
    runs = [run for row in rows for run in row.runs]
    slowest, quickest = min(run.speed for run in runs), max(run.speed for run in runs)
    return f"{slowest:,.0f} to {quickest:,.0f} simulated requests per second of real time"
