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
from random import Random

from trimtab.backoff import Backoff
from trimtab.server.readiness import Readiness
from trimtab.server.warm_up_rounds import Rounds

_log = logging.getLogger("trimtab.server")

Step = Callable[[], object]

_LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Warmup:
    """Steps that fill caches, load models, open connections; then the server is ready.

    Attributes:
        steps: functions without arguments, or coroutine functions, one after the other. Functions
            run in a thread. To warm the path of a request, call the server itself. One that fails
            is called again, so it must bear that.
        limit_s: the longest time for all of them [s]; then the server is ready all the same, since
            a slow pod is better than none. A step in a thread can't be stopped and runs on.
    """

    steps: Sequence[Step]
    limit_s: float = 60.0

    async def run(self, readiness: Readiness) -> bool:
        """Run the steps until all have passed, then set ``readiness``. Returns whether they did.

        A step that fails is logged, and the next one runs; after a pause that grows up to 5 s
        (``trimtab.backoff``) those that failed run again. At the limit the server is ready.
        """
        clock = time.monotonic  # noqa: TID251 - it measures this process
        begun = clock()
        rounds = Rounds(
            len(self.steps),
            now=begun,
            limit_s=self.limit_s,
            backoff=Backoff(Random(), cap_s=_LONGEST_PAUSE_S),
        )
        try:
            async with asyncio.timeout(self.limit_s):
                await self._run_rounds(rounds, clock)
        except TimeoutError:
            pass  # what is left says so
        if rounds.left:
            _log.warning(
                "warm-up reached its limit of %g s: ready without %s",
                self.limit_s,
                ", ".join(_name(self.steps[i]) for i in rounds.left),
            )
        _log.info("ready after %.2f s of warm-up", clock() - begun)
        readiness.ready = True
        return not rounds.left

    async def _run_rounds(self, rounds: Rounds, clock: Callable[[], float]) -> None:
        while True:
            for i in rounds.left:
                if await _run(self.steps[i]):
                    rounds.passed(i)
            pause = rounds.pause(clock())
            if pause is None:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await asyncio.Event().wait()

    def run_blocking(self, readiness: Readiness) -> bool:
        """The same for a server without an event loop."""
        return asyncio.run(self.run(readiness))


def _name(step: Step) -> str:
    return str(getattr(step, "__qualname__", repr(step)))


async def _run(step: Step) -> bool:
    try:
        if inspect.iscoroutinefunction(step):
            await step()
        else:
            await _in_thread(step)
    except Exception:  # noqa: BLE001 - a user's step must not keep the server from starting
        _log.exception("warm-up step %s failed; it runs again while there is time", _name(step))
        return False
    return True


async def _in_thread(step: Step) -> None:
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

    threading.Thread(target=run, name=f"warm-up {_name(step)}", daemon=True).start()
    await done
