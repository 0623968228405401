"""Everything that runs during a demo, and the directory that the control plane reads."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from trimtab.demo.children import ControlPlane, LoadChild, ServerChild
from trimtab.demo.experiment import Experiment, Mode
from trimtab.demo.messages import Close, Closed, Open, Opened
from trimtab.demo.processes import Child, DemoError
from trimtab.demo.rollout import PodState, Rollout


@dataclass
class Stage:
    """The running processes."""

    experiment: Experiment
    servers: Sequence[ServerChild]
    loads: Sequence[LoadChild]
    rollout: Rollout
    control_plane: str = ""
    ports: dict[int, int] = field(default_factory=dict)

    async def open_servers(self, indices: range) -> None:
        """Let these servers listen."""
        opened = await asyncio.gather(*(self.servers[n].ask(Open(), Opened) for n in indices))
        self.ports.update({n: answer.port for n, answer in zip(indices, opened, strict=True)})

    async def close_servers(self) -> list[Closed]:
        """End all servers' listening; what they counted."""
        self.ports.clear()
        return list(await asyncio.gather(*(s.ask(Close(), Closed) for s in self.servers)))

    def announce(self, phase: Mode, state: PodState) -> None:
        """Write the manifests: the first servers are ready, later ones are in ``state``."""
        first = self.experiment.first_servers
        self.rollout.write(
            {
                f"orders-{phase.value.replace('_', '-')}-{n + 1}": (
                    port,
                    PodState.READY if n < first else state,
                )
                for n, port in self.ports.items()
            }
        )

    @property
    def targets(self) -> tuple[str, ...]:
        """``host:port`` of the servers that listen now."""
        return tuple(f"127.0.0.1:{self.ports[n]}" for n in sorted(self.ports))


@asynccontextmanager
async def stage(experiment: Experiment, starting: Callable[[str], None]) -> AsyncIterator[Stage]:
    """Start all processes; end them on the way out, whatever happened.

    Args:
        experiment: how many there are of what.
        starting: hears what is being started.

    Raises:
        DemoError: a process failed, now or while the body runs.
    """
    servers = [ServerChild(n) for n in range(experiment.servers)]
    loads = [LoadChild(n) for n in range(experiment.load_processes)]
    plane = ControlPlane()
    children: list[Child] = [*servers, *loads, plane]
    with tempfile.TemporaryDirectory(prefix="trimtab-demo-") as directory:
        rollout = Rollout(Path(directory))
        rollout.write({})
        made = Stage(experiment, servers, loads, rollout)
        try:
            async with asyncio.TaskGroup() as listening:
                starting("control plane")
                await plane.serve(rollout.directory)
                tasks = [listening.create_task(plane.listen())]
                starting(f"{len(servers)} servers")
                for server in servers:
                    await server.start("trimtab.demo.server_process", str(server.index))
                    tasks.append(listening.create_task(server.listen()))
                starting(f"{len(loads)} client processes, {experiment.channels} channels")
                for load in loads:
                    await load.start("trimtab.demo.load_process")
                    tasks.append(listening.create_task(load.listen()))
                made.control_plane = await plane.ready()
                yield made
                for task in tasks:
                    task.cancel()
        except BaseExceptionGroup as errors:
            failures = errors.subgroup(DemoError)
            if failures is None:
                raise
            raise _first(failures) from None
        finally:
            await asyncio.gather(*(child.stop() for child in children))


def _first(errors: BaseExceptionGroup[DemoError]) -> DemoError:
    for error in errors.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError  # a group is never empty
