"""Results for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from trimtab.sim.report import Report, cells, heads, speed, summary, tells_after
from trimtab.sim.sizing import BASELINE, Goal, Need, saving


def show(report: Report, console: Console) -> None:
    """A run."""
    scenario = report.scenario
    console.print(Text(f"{report.name}: {scenario.title}", style="bold"))
    console.print(Padding(Text(summary(scenario)), (0, 0, 1, 2)))
    table = _table("policy", heads(report))
    for row in report.rows:
        style = "dim" if row.bound else "default"
        table.add_row(Text(row.label, style=style), *cells(row, report), style=style)
    console.print(table)
    notes = ["Latencies in milliseconds"]
    if len(scenario.seeds) > 1:
        notes.append("± standard deviation over the seeds")
    if tells_after(report):
        notes.append("(2 s): of requests that began within 2 s after an event")
    console.print(Text(f"{'; '.join(notes)}. {speed(report.rows)}.", style="dim"))


def show_needs(needed: list[Need], goal: Goal, console: Console) -> None:
    """A search for pods."""
    saved = saving(needed)
    table = _table("policy", ["pods", f"saving vs {BASELINE}", "reached", "used"])
    for need in needed:
        style = "dim" if need.bound else "default"
        less = saved.get(need.label)
        table.add_row(
            Text(need.label, style=style),
            f"{need.pods}" if need.pods is not None else f"> {need.tried}",
            f"{less:.1%}" if less is not None else "-",
            f"{need.reached_ms:.1f} ms" if need.reached_ms is not None else "-",
            f"{need.utilisation:.0%}" if need.utilisation is not None else "-",
            style=style,
        )
    console.print(Text(f"The fewest pods with {goal.text}", style="bold"))
    console.print(table)
    console.print(
        Text(
            "A comparison of policies, not a size to run: it leaves no room for the loss of a pod.",
            style="dim",
        )
    )


def _table(first: str, rest: list[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first)
    for head in rest:
        table.add_column(head, justify="right", no_wrap=True)
    return table
