"""The demo while it runs: a live picture in a terminal, plain lines anywhere else."""

from __future__ import annotations

import statistics
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trimtab.demo.experiment import Experiment, Mode
from trimtab.demo.figures import Figures
from trimtab.demo.report import Detail
from trimtab.demo.run import Progress
from trimtab.demo.tables import STYLE, bar, server_name
from trimtab.demo.words import brief

BAR_WIDTH = 24
PROGRESS_WIDTH = 24


class PlainView:
    """One line per event, for logs and pipes."""

    def __init__(self, experiment: Experiment, console: Console) -> None:
        self._experiment = experiment
        self._console = console
        self._said: tuple[Mode, int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is held."""

    def starting(self, what: str) -> None:
        """See ``run.View``."""
        self._console.print(f"starting {what}", highlight=False)

    def running(self, progress: Progress) -> None:
        """Say when a phase begins and when the further servers come, not when they are stopped."""
        now = (progress.mode, progress.present)
        if progress.present and now != self._said:
            self._said = now
            number = list(Mode).index(progress.mode) + 1
            self._console.print(
                f"phase {number}/{len(Mode)} {progress.mode.value}: {progress.present} servers",
                highlight=False,
            )

    def measured(self, mode: Mode, result: Figures, detail: Detail) -> None:  # noqa: ARG002
        """See ``run.View``."""
        self._console.print(f"  {mode.value}: {brief(result)}", highlight=False)


class LiveView:
    """A picture that is drawn over itself."""

    def __init__(self, experiment: Experiment, console: Console) -> None:
        self._experiment = experiment
        self._results: dict[Mode, Figures] = {}
        self._started: list[str] = []
        self._progress: Progress | None = None
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the terminal back."""
        self._live.stop()

    def starting(self, what: str) -> None:
        """See ``run.View``."""
        self._started.append(what)
        self._draw()

    def running(self, progress: Progress) -> None:
        """See ``run.View``."""
        self._progress = progress
        self._draw()

    def measured(self, mode: Mode, result: Figures, detail: Detail) -> None:  # noqa: ARG002
        """See ``run.View``."""
        self._results[mode] = result
        self._draw()

    def _draw(self) -> None:
        self._live.update(self._picture(), refresh=True)

    def _picture(self) -> RenderableType:
        e = self._experiment
        parts: list[RenderableType] = [
            Text("trimtab demo", style="bold"),
            Text(
                f"{e.servers} servers ({e.first_servers} at first), server {e.slow_server + 1} is "
                f"{e.slow_factor:g}x slower, {e.channels} channels, {e.rate:g} requests/s",
                style="dim",
            ),
            Text(),
        ]
        if self._progress is None:
            parts += [Text(f"  starting {what} ...") for what in self._started]
            return Group(*parts)
        parts += [Padding(self._phases(self._progress), (0, 0, 1, 2))]
        parts += [Padding(self._servers(self._progress), (0, 0, 0, 2))]
        return Group(*parts)

    def _phases(self, progress: Progress) -> Table:
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, min_width=len("round_robin_stale"))
        table.add_column(no_wrap=True)
        for mode in Mode:
            if mode in self._results:
                state: RenderableType = Text(brief(self._results[mode]))
                table.add_row(Text("✓", style="green"), Text(mode.value, style=STYLE[mode]), state)
            elif mode is progress.mode:
                style = f"bold {STYLE[mode]}"
                table.add_row("▸", Text(mode.value, style=style), self._now(progress))
            else:
                table.add_row(" ", Text(mode.value, style="dim"), "")
        return table

    def _now(self, progress: Progress) -> RenderableType:
        total = self._experiment.phase_s
        elapsed = max(0.0, progress.elapsed_s)
        if elapsed < total:
            told = f" {elapsed:4.1f} of {total:g} s"
        else:
            told = f" waiting for {sum(progress.in_flight)} late requests"
        row = Table.grid()
        style = STYLE[progress.mode]
        done = ProgressBar(
            total,
            min(elapsed, total),
            width=PROGRESS_WIDTH,
            complete_style=style,
            finished_style=style,
        )
        row.add_row(done, told)
        return row

    def _servers(self, progress: Progress) -> RenderableType:
        style = STYLE[progress.mode]
        workers = self._experiment.workers
        top = max(*progress.received, 1)
        table = Table(box=None, pad_edge=False, padding=(0, 1))
        table.add_column("server", no_wrap=True)
        table.add_column("requests in this phase", no_wrap=True, width=BAR_WIDTH)
        table.add_column("", justify="right", no_wrap=True, min_width=5)
        table.add_column("at work", no_wrap=True)
        table.add_column("waiting", no_wrap=True, justify="right", min_width=7)
        for n, received in enumerate(progress.received):
            name = server_name(n, self._experiment.slow_server, self._experiment.first_servers)
            if n >= progress.present:
                table.add_row(name, Text("not there yet", style="dim"), "")
                continue
            here = progress.in_flight[n]
            waiting = max(0, here - workers)
            table.add_row(
                name,
                Text(bar(received, top, BAR_WIDTH), style=style),
                f"{received:,}",
                "●" * min(here, workers) + "·" * max(0, workers - here),
                Text(f"{waiting:,}" if waiting else "", style="bold red"),
            )
        recent = sorted(progress.recent_ms)
        latency = f"{statistics.median(recent):.0f} ms" if recent else "-"
        worst = f"{recent[-1]:,.0f} ms" if recent else "-"
        told = Text(
            f"{progress.answered:,} answered, {progress.failed:,} failed; the last ones took "
            f"{latency} (median), {worst} (longest)",
            style="dim",
        )
        return Group(table, Text(), told)
