"""``trimtab demo``: options in, exit code out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

from rich.console import Console

from trimtab.demo.experiment import Experiment
from trimtab.demo.page import page
from trimtab.demo.picture import picture
from trimtab.demo.processes import DemoError
from trimtab.demo.report import Report
from trimtab.demo.run import run
from trimtab.demo.tables import show
from trimtab.demo.view import LiveView, PlainView
from trimtab.errors import ConfigError

OK, FAILED, WRONG_USE = 0, 1, 2
PLAIN_WIDTH = 100


def demo(
    *,
    seconds: float,
    seed: int,
    json: Path | None = None,
    html: Path | None = None,
    svg: Path | None = None,
) -> int:
    """Run the demo and write its results.

    Args:
        seconds: of load, all four phases together.
        seed: of arrivals and pins.
        json: where to write the figures.
        html: where to write the page.
        svg: where to write the picture of before and after.

    Returns:
        The exit code: 0, 1 (a part failed, or it was interrupted), 2 (wrong use).
    """
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        experiment = Experiment(seconds=seconds, seed=seed)
        for path in (json, html, svg):
            if path is not None:
                _check_writable(path)
    except ConfigError as error:
        errors.print(str(error), markup=False)
        return WRONG_USE
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    view = LiveView if console.is_terminal else PlainView
    try:
        with view(experiment, console) as shown:
            report = asyncio.run(_interruptible(experiment, shown))
    except DemoError as error:
        errors.print(str(error), markup=False)
        return FAILED
    except (KeyboardInterrupt, asyncio.CancelledError):
        errors.print("demo: interrupted; all its processes have ended")
        return FAILED
    show(report, console)
    console.print()
    for path, text in (
        (json, report.json),
        (html, lambda: page(report)),
        (svg, lambda: picture(report)),
    ):
        if path is not None:
            path.write_text(text(), encoding="utf-8")
            console.print(f"written: {path}", highlight=False)
    return OK


async def _interruptible(experiment: Experiment, view: LiveView | PlainView) -> Report:
    """Run it so that SIGTERM and a closed terminal end it as Ctrl-C does: in order."""
    task = asyncio.current_task()
    if task is not None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            with contextlib.suppress(NotImplementedError):
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await run(experiment, view)


def _check_writable(path: Path) -> None:
    """Find out now, not after half a minute.

    Raises:
        ConfigError: it can't be written.
    """
    parent = path.parent
    if path.is_dir():
        raise ConfigError(f"demo: {path} is a directory; give a file's name")
    if not parent.is_dir():
        raise ConfigError(f"demo: {path}: the directory {parent} does not exist; make it first")
    if not os.access(path if path.exists() else parent, os.W_OK):
        raise ConfigError(f"demo: {path} can't be written; check its permissions")
