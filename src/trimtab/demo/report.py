"""A demo's result: what ``--json`` writes and every picture is made of."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import msgspec

from trimtab.demo.experiment import Experiment
from trimtab.demo.figures import Figures, Slot

BUSY_MS = 5.0  # a quarter of the service time: from there on the machine is part of the result


class Machine(msgspec.Struct, frozen=True):
    """What it ran on."""

    cores: int
    processor: str
    system: str
    python: str
    grpcio: str
    trimtab: str


def this_machine() -> Machine:
    """Describe the machine that this runs on, without its name."""
    processor = platform.processor() or platform.machine()
    facts = Path("/proc/cpuinfo")
    if facts.exists():
        for line in facts.read_text().splitlines():
            if line.startswith("model name"):
                processor = line.split(":", 1)[1].strip()
                break
    return Machine(
        cores=os.cpu_count() or 1,
        processor=processor,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        grpcio=version("grpcio"),
        trimtab=version("trimtab"),
    )


class Detail(msgspec.Struct, frozen=True, kw_only=True):
    """What else is known of one phase.

    Attributes:
        learnt_ms: from the moment the new servers were announced to the first request that reached
            one of them; None if none did.
        client_lag_p99_ms: by how much requests left later than scheduled.
        client_lag_max_ms: at worst.
        server_overrun_p99_ms: by how much the work took longer than it should, on the worst server.
        requests_in_all: of the whole phase, the window and what came before it.
        errors: failed requests of the whole phase, by gRPC status.
        timeline: latency over the whole phase.
    """

    learnt_ms: float | None
    client_lag_p99_ms: float
    client_lag_max_ms: float
    server_overrun_p99_ms: float
    requests_in_all: int
    errors: dict[str, int]
    timeline: tuple[Slot, ...]

    @property
    def machine_kept_up(self) -> bool:
        """Whether the machine's own delays were small beside the service time."""
        return max(self.client_lag_p99_ms, self.server_overrun_p99_ms) <= BUSY_MS


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """The experiment, in words and numbers for readers of the file."""

    seconds: float
    phase_s: float
    scale_up_s: float
    window_s: tuple[float, float]
    window: str
    requests_per_s: float
    channels: int
    load_processes: int
    servers: int
    first_servers: int
    slow_server: int
    service_ms: tuple[float, ...]
    workers_per_server: int
    deadline_s: float


def setting(experiment: Experiment) -> Setting:
    """Describe an experiment."""
    begin, end = experiment.window
    return Setting(
        seconds=experiment.seconds,
        phase_s=experiment.phase_s,
        scale_up_s=round(experiment.scale_up_s, 3),
        window_s=(round(begin, 3), round(end, 3)),
        window=(
            "modes.* count the requests that were scheduled in window_s (seconds from the start of "
            "the phase), when all servers were there; requests_per_server is counted by the servers"
        ),
        requests_per_s=experiment.rate,
        channels=experiment.channels,
        load_processes=experiment.load_processes,
        servers=experiment.servers,
        first_servers=experiment.first_servers,
        slow_server=experiment.slow_server + 1,
        service_ms=tuple(
            round(experiment.service_time(n) * 1e3, 3) for n in range(experiment.servers)
        ),
        workers_per_server=experiment.workers,
        deadline_s=experiment.deadline_s,
    )


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything. ``modes`` has one entry per ``Mode``, in order, under its value."""

    modes: dict[str, Figures]
    seed: int
    machine: Machine
    experiment: Setting
    details: dict[str, Detail]

    def json(self) -> str:
        """As ``--json`` writes it."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode() + "\n"

    @property
    def kept_up(self) -> bool:
        """Whether the machine kept up in every phase."""
        return all(detail.machine_kept_up for detail in self.details.values())
