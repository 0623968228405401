"""Warm-up: what a server does before it wants traffic."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from trimtab.server.readiness import Readiness

_log = logging.getLogger("trimtab.server")

Step = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Warmup:
    """Steps that fill caches, load models, open connections; then the server is ready.

    Attributes:
        steps: functions without arguments, or coroutine functions, one after the other. Functions
            run in a thread. To warm the path of a request, call the server itself.
        limit_s: the longest time for all of them [s]; then the server is ready all the same, since
            a slow pod is better than none. A step in a thread can't be stopped and runs on.
    """

    steps: Sequence[Step]
    limit_s: float = 60.0

    async def run(self, readiness: Readiness) -> bool:
        """Run the steps, then set ``readiness``. Returns whether all of them passed.

        A step that fails is logged, and the next one runs.
        """
        clock = time.monotonic  # noqa: TID251 - it measures this process
        begun, passed, at = clock(), True, "none"
        try:
            async with asyncio.timeout(self.limit_s):
                for step in self.steps:
                    at = getattr(step, "__qualname__", repr(step))
                    passed &= await _run(step, at)
        except TimeoutError:
            passed = False
            _log.warning(
                "warm-up reached its limit of %g s in step %s: ready without the rest",
                self.limit_s,
                at,
            )
        _log.info("ready after %.2f s of warm-up", clock() - begun)
        readiness.ready = True
        return passed

    def run_blocking(self, readiness: Readiness) -> bool:
        """The same for a server without an event loop."""
        return asyncio.run(self.run(readiness))


async def _run(step: Step, name: str) -> bool:
    try:
        if inspect.iscoroutinefunction(step):
            await step()
        else:
            await _in_thread(step, name)
    except Exception:  # noqa: BLE001 - a user's step must not keep the server from starting
        _log.exception("warm-up step %s failed; going on without it", name)
        return False
    return True


async def _in_thread(step: Step, name: str) -> None:
    """Run a function in a daemon thread: one that hangs must not keep the process from ending."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def end(problem: Exception | None) -> None:
        if done.done():
            return  # given up
        if problem is None:
            done.set_result(None)
        else:
            done.set_exception(problem)

    def run() -> None:
        problem = None
        try:
            step()
        except Exception as raised:  # noqa: BLE001 - it is raised where the step is awaited
            problem = raised
        with suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(end, problem)

    threading.Thread(target=run, name=f"warm-up {name}", daemon=True).start()
    await done
