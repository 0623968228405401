"""The demo's result for a terminal."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from trimtab.demo.experiment import Mode
from trimtab.demo.report import Report
from trimtab.demo.words import (
    HEADS,
    PICKS,
    cells,
    knows,
    machine_facts,
    machine_verdict,
    measured,
    readings,
    summary,
)

BLOCKS = " ▏▎▍▌▋▊▉"
STYLE = {
    Mode.PINNED: "red",
    Mode.ROUND_ROBIN_STALE: "yellow",
    Mode.ROUND_ROBIN: "blue",
    Mode.TRIMTAB: "green",
}
BAR_WIDTH = 9


def bar(value: float, top: float, width: int) -> str:
    """A bar of ``width`` cells at most, exact to an eighth of a cell."""
    eighths = round(max(0.0, min(1.0, value / top if top else 0.0)) * width * 8)
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + (BLOCKS[rest] if rest else "")).ljust(width)


def server_name(index: int, slow: int, first_servers: int) -> Text:
    """A server's number from 1, and what is special about it."""
    name = Text(f"{index + 1}")
    if index == slow:
        name.append(" slow", style="bold")
    elif index >= first_servers:
        name.append(" new", style="dim")
    return name


def per_server(report: Report) -> Table:
    """Requests per server, one column per mode, all bars on one scale."""
    setting = report.experiment
    top = max(max(f.requests_per_server) for f in report.modes.values())
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    table.add_column("server", no_wrap=True)
    for mode in Mode:
        table.add_column(mode.value, no_wrap=True, header_style=f"bold {STYLE[mode]}")
    for n in range(setting.servers):
        row = [server_name(n, setting.slow_server - 1, setting.first_servers)]
        for mode in Mode:
            count = report.modes[mode.value].requests_per_server[n]
            cell = Text(bar(count, top, BAR_WIDTH), style=STYLE[mode])
            cell.append(f"{count:>6,}", style="default" if count else "dim")
            row.append(cell)
        table.add_row(*row)
    return table


def figures_table(report: Report) -> Table:
    """The figures, one row per mode."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("mode", no_wrap=True)
    for head in HEADS:
        table.add_column(head, justify="right", no_wrap=True)
    for mode in Mode:
        table.add_row(
            Text(mode.value, style=f"bold {STYLE[mode]}"), *cells(report.modes[mode.value])
        )
    return table


def result(report: Report) -> RenderableType:
    """Everything there is to say at the end."""
    setting = report.experiment
    parts: list[RenderableType] = [
        Text("Requests per server in the measured window", style="bold"),
        Padding(per_server(report), (0, 0, 1, 2)),
        Text("Evenness, and latency in milliseconds", style="bold"),
        Padding(figures_table(report), (0, 0, 1, 2)),
        Text("How each picks, and which servers it knows", style="bold"),
    ]
    who = Table(box=None, pad_edge=False, padding=(0, 1), show_header=False)
    who.add_column(no_wrap=True)
    who.add_column()
    for mode in Mode:
        who.add_row(
            Text(mode.value, style=f"bold {STYLE[mode]}"), f"{PICKS[mode]}; {knows(mode, setting)}"
        )
    parts.append(Padding(who, (0, 0, 1, 2)))
    parts.append(Text("How to read it", style="bold"))
    for heading, text in readings(report):
        line = Text(f"{heading}: ", style="italic")
        line.append(text, style="default not italic")
        parts.append(Padding(line, (0, 0, 0, 2)))
    parts += [
        Text(),
        Text("The experiment", style="bold"),
        Padding(Text(summary(setting)), (0, 0, 0, 2)),
        Padding(Text(measured(setting)), (0, 0, 0, 2)),
        Padding(
            Text(machine_verdict(report), style="default" if report.kept_up else "bold red"),
            (0, 0, 0, 2),
        ),
        Padding(Text(f"{machine_facts(report)}; seed {report.seed}."), (0, 0, 0, 2)),
    ]
    return Group(*parts)


def show(report: Report, console: Console) -> None:
    """Print the result."""
    console.print()
    console.print(result(report))
