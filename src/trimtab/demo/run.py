"""Runs the demo: one phase after the other, each kind of channel under the same requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from trimtab.demo.experiment import Arrival, Experiment, Mode, arrivals
from trimtab.demo.figures import Figures, figures, timeline
from trimtab.demo.messages import Closed, Finished, Go, Learn, Prepare, Ready
from trimtab.demo.processes import DemoError
from trimtab.demo.report import Detail, Report, setting, this_machine
from trimtab.demo.rollout import CLUSTER, PodState
from trimtab.demo.stage import Stage, stage

HEAD_START_S = 0.4  # from the order to begin until the first request, so that all have read it
ANNOUNCED_AHEAD_S = 0.2  # how long the new pods exist before they are ready
SLOT_S = 0.25
TICK_S = 0.2


@dataclass(slots=True)
class Progress:
    """How the present phase stands, for whoever shows it.

    Attributes:
        mode: the phase's.
        elapsed_s: since its first request was due; negative before.
        received: requests per server so far.
        in_flight: requests per server now, waiting ones included.
        present: how many servers there are.
        answered: requests that have ended.
        failed: those of them that failed.
        recent_ms: the latencies of the last ones.
    """

    mode: Mode
    elapsed_s: float
    received: tuple[int, ...]
    in_flight: tuple[int, ...]
    present: int
    answered: int
    failed: int
    recent_ms: tuple[float, ...]


class View(Protocol):
    """Whoever shows the demo's progress."""

    def starting(self, what: str) -> None:
        """This is being started."""

    def running(self, progress: Progress) -> None:
        """The present phase stands so; called several times a second."""

    def measured(self, mode: Mode, result: Figures, detail: Detail) -> None:
        """A phase is over."""


async def run(experiment: Experiment, view: View) -> Report:
    """The whole demo.

    Raises:
        DemoError: a part of it failed.
    """
    results: dict[str, Figures] = {}
    details: dict[str, Detail] = {}
    schedule = arrivals(experiment)
    async with stage(experiment, view.starting) as made:
        for mode in Mode:
            result, detail = await phase(made, mode, schedule, view)
            results[mode.value], details[mode.value] = result, detail
            view.measured(mode, result, detail)
    return Report(
        modes=results,
        seed=experiment.seed,
        machine=this_machine(),
        experiment=setting(experiment),
        details=details,
    )


async def phase(
    made: Stage, mode: Mode, schedule: Sequence[Arrival], view: View
) -> tuple[Figures, Detail]:
    """One mode, from idle servers to idle servers."""
    experiment = made.experiment
    loop = asyncio.get_running_loop()
    for server in made.servers:
        server.forget()
    for load in made.loads:
        load.forget()
    await made.open_servers(range(experiment.first_servers))
    made.announce(mode, PodState.READY)
    prepare = [
        Prepare(mode, experiment, load.share, made.targets, made.control_plane, CLUSTER)
        for load in made.loads
    ]
    await asyncio.gather(*(load.ask(p, Ready) for load, p in zip(made.loads, prepare, strict=True)))

    start = loop.time() + HEAD_START_S
    patience = HEAD_START_S + experiment.phase_s + experiment.deadline_s + 10
    with _ticking(lambda: view.running(_progress(made, mode, loop.time() - start))):
        async with asyncio.TaskGroup() as sending:
            ends = [
                sending.create_task(load.ask(Go(start), Finished, patience)) for load in made.loads
            ]
            announced = await _scale_up(made, mode, start)
        closed = await made.close_servers()
    return _measured(made, schedule, [end.result() for end in ends], closed, announced)


async def _scale_up(made: Stage, mode: Mode, start: float) -> float:
    """Let the further servers come, as a rollout would; when they were announced as ready."""
    experiment = made.experiment
    at = start + experiment.scale_up_s
    await _until(at - ANNOUNCED_AHEAD_S)
    await made.open_servers(range(experiment.first_servers, experiment.servers))
    made.announce(mode, PodState.STARTING)
    await _until(at)
    announced = asyncio.get_running_loop().time()
    made.announce(mode, PodState.READY)
    if mode is Mode.ROUND_ROBIN:
        for load in made.loads:
            load.tell(Learn(made.targets))
    return announced


def _measured(
    made: Stage,
    schedule: Sequence[Arrival],
    ends: Sequence[Finished],
    closed: Sequence[Closed],
    announced: float,
) -> tuple[Figures, Detail]:
    experiment = made.experiment
    answers = [answer for load in made.loads for answer in load.answers]
    if len(answers) != len(schedule):
        raise DemoError(
            f"demo: {len(schedule)} requests were scheduled, {len(answers)} were accounted for"
        )
    inside = [a for a in answers if experiment.in_window(schedule[a.index].at)]
    late = closed[experiment.first_servers :]
    firsts = [c.first_at for c in late if c.first_at is not None]
    errors: dict[str, int] = {}
    for end in ends:
        for status, count in end.errors.items():
            errors[status] = errors.get(status, 0) + count
    result = figures(
        [a.latency_s for a in inside],
        sum(a.failed for a in inside),
        [c.measured for c in closed],
    )
    detail = Detail(
        learnt_ms=round((min(firsts) - announced) * 1e3, 1) if firsts else None,
        client_lag_p99_ms=max(end.lag_p99_ms for end in ends),
        client_lag_max_ms=max(end.lag_max_ms for end in ends),
        server_overrun_p99_ms=max(c.overrun_p99_ms for c in closed),
        requests_in_all=len(answers),
        errors=errors,
        timeline=timeline(
            [(schedule[a.index].at, a.latency_s, a.failed) for a in answers],
            experiment.phase_s,
            SLOT_S,
        ),
    )
    return result, detail


def _progress(made: Stage, mode: Mode, elapsed_s: float) -> Progress:
    answers = [load.answers for load in made.loads]
    recent = [answer.latency_s * 1e3 for some in answers for answer in some[-100:]]
    return Progress(
        mode=mode,
        elapsed_s=elapsed_s,
        received=tuple(server.received for server in made.servers),
        in_flight=tuple(server.in_flight for server in made.servers),
        present=len(made.ports),
        answered=sum(map(len, answers)),
        failed=sum(load.failed for load in made.loads),
        recent_ms=tuple(recent),
    )


@contextmanager
def _ticking(show: Callable[[], None]) -> Iterator[None]:
    """Call ``show`` several times a second while the body runs."""
    loop = asyncio.get_running_loop()
    handle: asyncio.Handle

    def tick() -> None:
        nonlocal handle
        handle = loop.call_later(TICK_S, tick)
        show()

    handle = loop.call_soon(tick)
    try:
        yield
    finally:
        handle.cancel()


async def _until(when: float) -> None:
    """Wait for a moment of the loop's clock."""
    reached = asyncio.Event()
    asyncio.get_running_loop().call_at(when, reached.set)
    await reached.wait()
