"""Python's garbage collector, tuned so that it does not hold up the event loop.

A full collection walks over everything that is held: at 100,000 endpoints the loop stands still for more
than a tenth of a second, and while all that is read at the start it happens again and again. What has
survived one that took long is therefore frozen (``gc.freeze``): freed as ever once nothing refers to
it, but never walked over again, so that the next one walks over what is new. That way cycles would be
missed that become garbage after they were frozen. Ours make none, which a test sees to; as a second
line the first full collection after a day walks over everything. Where little is made there is none, and
what is missed is no more than what was frozen.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from types import TracebackType

from trimtab.control import metrics
from trimtab.telemetry import Counters

FREEZE_FROM_S = 0.005
WHOLE_EVERY_S = 24 * 3600.0
_FULL = 2
_THRESHOLDS = (2_000, 5, 5)
"""A young collection walks over 2,000 objects, one of the middle generation over 12,000,
and a full one is considered after 60,000 more objects (by default 700, 7,000 and 70,000)."""


class Collector:
    """Watches the collector of this process, as long as its ``with`` lasts.

    Args:
        counters: get each pause.
        clock: any steady clock [s].
    """

    def __init__(self, counters: Counters, clock: Callable[[], float]) -> None:
        self._counters = counters
        self._clock = clock
        self._began = 0.0
        self._whole_at = clock()  # when everything was walked over last
        self._thresholds = gc.get_threshold()

    def __enter__(self) -> None:
        gc.set_threshold(*_THRESHOLDS)
        gc.callbacks.append(self._note)

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        gc.callbacks.remove(self._note)
        gc.set_threshold(*self._thresholds)
        gc.unfreeze()

    def _note(self, phase: str, info: Mapping[str, int]) -> None:
        """Called by the collector as it begins and ends, in whichever thread it runs."""
        now = self._clock()
        full = info["generation"] == _FULL
        if phase == "start":
            if full and now - self._whole_at >= WHOLE_EVERY_S:
                self._whole_at = now
                gc.unfreeze()
            self._began = now
            return
        pause_s = now - self._began
        self._counters.observe(metrics.GC_PAUSE, pause_s)
        if full and pause_s >= FREEZE_FROM_S:
            gc.freeze()  # just collected: no garbage is among it
