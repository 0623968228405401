"""The share of its processor time that this process uses."""

from __future__ import annotations

import os
import time
from math import exp
from pathlib import Path

from trimtab.server.rates import TAU_S

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # "QUOTA PERIOD" in microseconds, or "max PERIOD"


class CpuUtilization:
    """How full the processor is with this process.

    Args:
        cores: what counts as all of it; without it the container's limit, else the cores that the
            process may run on.
    """

    def __init__(self, cores: float | None = None) -> None:
        self.cores = cores or _limit(_QUOTA) or float(len(os.sched_getaffinity(0)))
        self._used, self._now = _clocks()
        self._share: float | None = None

    def __call__(self) -> float:
        """The share used lately, 0 to 1: smoothed over 3 s, as the rates that go with it are."""
        used, now = _clocks()
        dt = max(now - self._now, 1e-3)
        share = (used - self._used) / dt / self.cores
        if self._share is None:
            self._share = share
        else:
            self._share += (share - self._share) * (1.0 - exp(-dt / TAU_S))
        self._used, self._now = used, now
        return self._share


def _clocks() -> tuple[float, float]:
    return time.process_time(), time.monotonic()  # noqa: TID251 - it measures this process


def _limit(path: Path) -> float | None:
    """The cores that a control group (version 2) allows; None without a limit."""
    try:
        quota, period = path.read_text().split()
        return int(quota) / int(period) or None
    except (OSError, ValueError, ZeroDivisionError):
        return None
