"""How late the event loop comes to what is due: it answers nobody while it stands still."""

from __future__ import annotations

import logging
from collections.abc import Callable

from trimtab.control import metrics
from trimtab.discovery.pause import pause
from trimtab.telemetry import Counters

_LOG = logging.getLogger(__name__)

BEAT_S = 0.5
SAID_FROM_S = 1.0


class LoopLag:
    """Has itself called again after ``BEAT_S`` and measures how much later that is.

    Args:
        counters: get each measurement.
        clock: loop time [s].
    """

    def __init__(self, counters: Counters, clock: Callable[[], float]) -> None:
        self._counters = counters
        self._clock = clock

    async def run(self) -> None:
        """Measure for ever."""
        while True:
            due = self._clock() + BEAT_S
            await pause(BEAT_S)
            self.late(self._clock() - due)

    def late(self, by_s: float) -> None:
        """The loop came so much later than it should have [s]."""
        self._counters.observe(metrics.LOOP_LAG, max(0.0, by_s))
        if by_s >= SAID_FROM_S:
            _LOG.warning(
                "the event loop stood still for %.1f s: nobody was answered; is the processor "
                "limited or overloaded, or was the process stopped?",
                by_s,
            )
