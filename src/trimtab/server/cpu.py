"""The share of its processor time that this process uses."""

from __future__ import annotations

import os
import time
from pathlib import Path

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

    def __call__(self) -> float:
        """The share used since the last call, 0 to 1; the first time: since this was made."""
        used, now = _clocks()
        share = (used - self._used) / max(now - self._now, 1e-3) / self.cores
        self._used, self._now = used, now
        return share


def _clocks() -> tuple[float, float]:
    return time.process_time(), time.monotonic()  # noqa: TID251 - it measures this process


def _limit(path: Path) -> float | None:
    """The cores that a control group (version 2) allows; None without a limit."""
    try:
        quota, period = path.read_text().split()
        return int(quota) / int(period) or None
    except (OSError, ValueError, ZeroDivisionError):
        return None
