"""Results for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from trimtab.sim.report import Report, cells, heads, speed, summary, tells_after
from trimtab.sim.sizing import BASELINE, Goal, Need, saving

GAP = 2  # columns of a terminal between two of a table


def show(report: Report, console: Console) -> None:
    """A run."""
    scenario = report.scenario
    console.print(Text(f"{report.name}: {scenario.title}", style="bold"))
    console.print(Padding(Text(summary(scenario)), (0, 0, 1, 2), expand=False))
    rows = [
        (row.label, cells(row, report), "dim" if row.bound else "default") for row in report.rows
    ]
    _print_tables(heads(report), rows, console)
    notes = ["Latencies in milliseconds"]
    if len(scenario.seeds) > 1:
        notes.append("± standard deviation over the seeds")
    if tells_after(report):
        notes.append("(2 s): of requests that began within 2 s after an event")
    console.print(Text(f"{'; '.join(notes)}. {speed(report.rows)}.", style="dim"))


def show_needs(needed: list[Need], goal: Goal, console: Console) -> None:
    """A search for pods."""
    saved = saving(needed)
    rows = []
    for need in needed:
        less = saved.get(need.label)
        shown = [
            f"{need.pods}" if need.pods is not None else f"> {need.tried}",
            f"{less:.1%}" if less is not None else "-",
            f"{need.reached_ms:.1f} ms" if need.reached_ms is not None else "-",
            f"{need.utilisation:.0%}" if need.utilisation is not None else "-",
        ]
        rows.append((need.label, shown, "dim" if need.bound else "default"))
    console.print(Text(f"The fewest pods with {goal.text}", style="bold"))
    _print_tables(["pods", f"saving vs {BASELINE}", "reached", "used"], rows, console)
    console.print(
        Text(
            "A comparison of policies, not a size to run: it leaves no room for the loss of a pod.",
            style="dim",
        )
    )


def _print_tables(
    heads: list[str], rows: list[tuple[str, list[str], str]], console: Console
) -> None:
    """Print label, figures and style of each row: in one table, or below each other those that fit."""
    named = min(max(len(label) for label, _, _ in rows), console.width // 2)
    widths = [max(len(head), *(len(row[1][i]) for row in rows)) for i, head in enumerate(heads)]
    for block in _blocks(widths, console.width - named):
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
        table.add_column("policy", min_width=named)
        for i in block:
            table.add_column(heads[i], justify="right", no_wrap=True)
        for label, figures, style in rows:
            table.add_row(Text(label, style=style), *(figures[i] for i in block), style=style)
        if block[0] > 0:
            console.print()
        console.print(table)


def _blocks(widths: list[int], room: int) -> list[list[int]]:
    """The columns in order, as many beside each other as there is room for, but one at least."""
    blocks: list[list[int]] = []
    left = 0
    for i, width in enumerate(widths):
        if not blocks or left < GAP + width:
            blocks.append([])
            left = room
        blocks[-1].append(i)
        left -= GAP + width
    return blocks
