"""``trimtab simulate``: options in, results out."""

from __future__ import annotations

import json as json_text
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from trimtab.errors import ConfigError
from trimtab.sim import library
from trimtab.sim.observed import Known, from_metrics, from_trace, with_known
from trimtab.sim.page import page
from trimtab.sim.reading import Place
from trimtab.sim.report import Report, sizing_view
from trimtab.sim.run import contestants, run
from trimtab.sim.scenario import Choice, Scenario, check_policy
from trimtab.sim.sizing import Goal, needs, parse_goal
from trimtab.sim.tables import show, show_needs

PLAIN_WIDTH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the command line asks for; None or () keeps what the scenario says.

    Attributes:
        policies: names, or labels of the scenario's.
        seeds: how many, from 1.
        requests: of a run.
        pods_for: a goal.
        json: where to write the result.
        html: where to write the page.
        output: "table" or "json".
        command: what was typed, for the page.
    """

    policies: tuple[str, ...] = ()
    seeds: int | None = None
    requests: int | None = None
    pods_for: str | None = None
    json: Path | None = None
    html: Path | None = None
    output: str = "table"
    command: str = "trimtab simulate"


@dataclass(frozen=True, slots=True)
class Source:
    """Where service times come from, if not from a scenario; false if from nowhere.

    Attributes:
        trace: a recording.
        metrics: a URL or a file.
        metric: which histogram.
        over_s: between two looks [s].
    """

    trace: Path | None = None
    metrics: str | None = None
    metric: str | None = None
    over_s: float = 10.0

    def __bool__(self) -> bool:
        return self.trace is not None or self.metrics is not None


def prepared(scenario: str | None, source: Source, known: Known) -> tuple[str, Scenario]:
    """What to run, by name.

    Raises:
        ConfigError: an input is wrong, or does not tell enough.
    """
    name, base = library.find(scenario) if scenario is not None else ("observed", None)
    if source.trace is not None and source.metrics is not None:
        raise ConfigError("--from-trace, --from-metrics: give one of them")
    if source.trace is not None:
        base = from_trace(source.trace, known, base)
    elif source.metrics is not None:
        base = from_metrics(
            source.metrics,
            source.metric,
            source.over_s,
            partial(_wait, source.metrics),
            known,
            base,
        )
    if base is None:
        raise ConfigError("say which scenario; --list shows those that come with trimtab")
    return name, with_known(base, known)


def listing() -> list[tuple[str, str]]:
    """The library: names and titles."""
    return [(name, library.find(name)[1].title) for name in library.names()]


def simulate(name: str, scenario: Scenario, wish: Wish) -> None:
    """Run it and show what came out.

    Raises:
        ConfigError: an option or the scenario is wrong.
    """
    goal = parse_goal(wish.pods_for) if wish.pods_for is not None else None
    if goal is not None and wish.html is not None:
        raise ConfigError("--html: draws a run; leave --pods-for away")
    scenario = changed(name, scenario, wish)
    written = [path for path in (wish.json, wish.html) if path is not None]
    for path in written:
        check_writable(path)
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    tell = wish.output == "table"
    if goal is None:
        text = _ran(name, scenario, wish, console if tell else None)
    else:
        text = _searched(name, scenario, goal, console if tell else None)
    if wish.json is not None:
        wish.json.write_text(text, encoding="utf-8")
    if not tell:
        console.file.write(text)
        return
    for path in written:
        console.print(f"written: {path}", highlight=False)


def _ran(name: str, scenario: Scenario, wish: Wish, console: Console | None) -> str:
    with _progress(len(contestants(scenario)) * len(scenario.seeds)) as told:
        report = Report(name, scenario, run(scenario, time.perf_counter, told))
    if console is not None:
        show(report, console)
    if wish.html is not None:
        wish.html.write_text(page(report, wish.command), encoding="utf-8")
    return report.json()


def _searched(name: str, scenario: Scenario, goal: Goal, console: Console | None) -> str:
    with _progress(None) as told:
        needed = needs(scenario, goal, time.perf_counter, told)
    if console is not None:
        show_needs(needed, goal, console)
    return json_text.dumps(sizing_view(name, scenario, goal, needed), indent=2) + "\n"


def changed(name: str, scenario: Scenario, wish: Wish) -> Scenario:
    """The scenario as the options want it.

    Raises:
        ConfigError: it does not go together.
    """
    if wish.seeds is not None:
        scenario = replace(scenario, seeds=tuple(range(1, wish.seeds + 1)))
    if wish.requests is not None:
        scenario = replace(scenario, requests=wish.requests, seconds=None)
    if wish.policies:
        known = {choice.label: choice for choice in scenario.policies}
        choices = {p: known.get(p) or Choice.named(p) for p in wish.policies}
        for choice in choices.values():
            check_policy(choice, Place(name, "--policies"))
        scenario = replace(scenario, policies=tuple(choices.values()))
    for field, value, fix in scenario.faults():
        short = wish.requests is not None and field not in ("seeds", "requests")
        more = f"; give more --requests than {wish.requests:,}" if short else ""
        raise Place(name, field).error(value, fix + more)
    return scenario


def check_writable(path: Path) -> None:
    """Find out now, not after the run.

    Raises:
        ConfigError: it can't be written.
    """
    if path.is_dir():
        raise ConfigError(f"{path}: is a directory; give a file's name")
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: the directory {path.parent} does not exist; make it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(f"{path}: can't be written; check its permissions")


def _wait(url: str, seconds: float) -> None:
    """Say on stderr, where that is a terminal, what is waited for."""
    with Console(stderr=True).status(f"watching {url} for {seconds:g} s (--over)"):
        threading.Event().wait(seconds)


@contextmanager
def _progress(total: int | None) -> Iterator[Callable[[str, int, float], None]]:
    """A bar on stderr where that is a terminal; ``total`` None: there is no telling."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=total)
        ended = 0

        def told(label: str, seed: int, part: float) -> None:
            nonlocal ended
            bar.update(task, description=f"{label}, seed {seed}", completed=ended + part)
            if part >= 1.0:
                ended += 1

        yield told
