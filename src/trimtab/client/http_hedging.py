"""One HTTP request's attempts where they may overlap: on an event loop, or in threads."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable, Coroutine
from queue import Empty, SimpleQueue
from typing import Any

from trimtab.attempt import Ended, Verdict
from trimtab.client.http_attempts import HttpCall
from trimtab.client.http_discard import let_go, let_go_soon
from trimtab.client.http_plans import LOST
from trimtab.errors import NoEndpoints

_GOOD = Ended(0, good=True)
_NOBODY = Ended(LOST)  # no endpoint was there for it; others may still answer


class Tried:
    """What came of an attempt: a response, or the error that the caller gets if it is the last.

    Attributes:
        response: the library's, unread.
        error: the library's.
        ended: None: nobody would ask for another.
    """

    __slots__ = ("ended", "error", "response")

    def __init__(self, response: Any, error: BaseException | None, ended: Ended | None) -> None:
        self.response = response
        self.error = error
        self.ended = ended

    def result(self) -> Any:
        """The response.

        Raises:
            BaseException: the error.
        """
        if self.error is not None:
            raise self.error
        return self.response


class _Race:
    """What the loop and the threads share: whose end is the request's, and whose response nobody wants.

    Attributes:
        course: decides.
        running: attempts under way.
        unwanted: responses to let go of.
    """

    def __init__(self, call: HttpCall, clock: Callable[[], float]) -> None:
        self.course = call.course
        self.running = 0
        self.unwanted: list[Any] = []
        self._clock = clock
        self._last: Tried | None = None

    def wait_s(self) -> float | None:
        """When to ask ``due`` [s]; None: when an attempt has ended."""
        at = self.course.next_at
        return None if at is None else max(0.0, at - self._clock())

    def due(self) -> tuple[bool, Tried | None]:
        """Whether to make another attempt now; else what ends the request, if nothing more can come."""
        if self.course.due(self._clock()):
            return True, None
        if self.running:
            return False, None
        last, self._last = self._last, None
        return False, last

    def ended(self, tried: Tried) -> Verdict:
        """An attempt ended: what that means."""
        self.no_more()
        self.running -= 1
        verdict = self.course.ended(self._clock(), tried.ended or _GOOD)
        if verdict is not Verdict.FINAL:
            self._last = tried
        return verdict

    def no_more(self) -> None:
        """The latest end that was not the request's will not be it either."""
        last, self._last = self._last, None
        if last is not None:
            self.late(last)

    def late(self, tried: Tried) -> None:
        """This end is nobody's."""
        if tried.response is not None:
            self.unwanted.append(tried.response)


def _unplaced(error: BaseException) -> Tried:
    """An attempt that ended before it left."""
    if isinstance(error.__cause__, NoEndpoints):
        return Tried(None, error, _NOBODY)
    raise error


class HedgedOnLoop:
    """Attempts in tasks; those that lose are cancelled.

    Args:
        call: the request.
        attempt: makes one.
        discard: lets go of a response that nobody wants.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        call: HttpCall,
        attempt: Callable[[], Coroutine[Any, Any, Tried]],
        discard: Callable[[Any], Awaitable[None]],
        clock: Callable[[], float],
    ) -> None:
        self._race = _Race(call, clock)
        self._attempt = attempt
        self._discard = discard
        self._running: set[asyncio.Task[Tried]] = set()

    async def to_its_end(self) -> Any:
        """The response that ends the request.

        Raises:
            BaseException: the error of the attempt that does.
        """
        final = None
        try:
            final = await self._final()
        finally:
            await self._end(final)
        return final.result()

    async def _final(self) -> Tried:
        self._start()
        while True:
            over = await self._next_ends()
            if not over:
                again, last = self._race.due()
                if again:
                    self._start()
                elif last is not None:
                    return last
            for task in over:
                self._running.discard(task)
                error = task.exception()
                tried = task.result() if error is None else _unplaced(error)
                verdict = self._race.ended(tried)
                if verdict is Verdict.FINAL:
                    return tried
                if verdict is Verdict.AGAIN:
                    self._start()
            await self._let_go()

    def _start(self) -> None:
        self._race.running += 1
        self._running.add(asyncio.Task(self._attempt()))

    async def _next_ends(self) -> set[asyncio.Task[Tried]]:
        wait_s = self._race.wait_s()
        if not self._running:
            await asyncio.sleep(wait_s or 0.0)  # noqa: TID251 - the pause before the next attempt
            return set()
        over, _ = await asyncio.wait(
            self._running, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED
        )
        return over

    async def _end(self, final: Tried | None) -> None:
        race = self._race
        race.no_more()
        for task in self._running:
            task.add_done_callback(_look_at)
            if not task.cancel() and not task.cancelled() and task.exception() is None:
                race.late(task.result())
        try:
            await self._let_go()
        except BaseException:  # cancelled: nobody takes the answer
            if final is not None:
                race.late(final)
            await self._let_go()
            raise

    async def _let_go(self) -> None:
        unwanted = self._race.unwanted
        while unwanted:
            await let_go_soon(unwanted.pop(), self._discard)


def _look_at(task: asyncio.Task[Tried]) -> None:
    if not task.cancelled():
        task.exception()  # the one of an attempt that lost is nobody's business


class HedgedInThreads:
    """Attempts in a thread each. None can be cancelled: what comes late is let go of where it comes.

    The arguments are those of ``HedgedOnLoop``.
    """

    def __init__(
        self,
        call: HttpCall,
        attempt: Callable[[], Tried],
        discard: Callable[[Any], None],
        clock: Callable[[], float],
    ) -> None:
        self._race = _Race(call, clock)
        self._attempt = attempt
        self._discard = discard
        self._ended: SimpleQueue[Tried | BaseException] = SimpleQueue()
        self._lock = threading.Lock()
        self._over = False

    def to_its_end(self) -> Any:
        """As ``HedgedOnLoop.to_its_end``."""
        final = None
        try:
            final = self._final()
        finally:
            self._end(final)
        return final.result()

    def _final(self) -> Tried:
        self._start()
        while True:
            try:
                found = self._ended.get(timeout=self._race.wait_s())
            except Empty:
                again, last = self._race.due()
                if again:
                    self._start()
                elif last is not None:
                    return last
                continue
            tried = found if isinstance(found, Tried) else _unplaced(found)
            verdict = self._race.ended(tried)
            if verdict is Verdict.FINAL:
                return tried
            if verdict is Verdict.AGAIN:
                self._start()
            self._let_go()

    def _start(self) -> None:
        self._race.running += 1
        run = contextvars.copy_context().run
        try:
            threading.Thread(
                target=run, args=(self._run,), name="trimtab-hedge", daemon=True
            ).start()
        except RuntimeError as error:  # the process has as many threads as it may
            if self._race.running > 1:
                self._ended.put(Tried(None, error, _NOBODY))  # others are under way
            else:
                run(self._run)

    def _run(self) -> None:
        try:
            found: Tried | BaseException = self._attempt()
        except BaseException as error:  # noqa: BLE001 - it is the waiting thread's
            found = error
        with self._lock:
            if not self._over:
                self._ended.put(found)
                return
        if isinstance(found, Tried) and found.response is not None:
            let_go(found.response, self._discard)

    def _end(self, final: Tried | None) -> None:
        with self._lock:
            self._over = True
        race = self._race
        race.no_more()
        while not self._ended.empty():
            found = self._ended.get()
            if isinstance(found, Tried):
                race.late(found)
        try:
            self._let_go()
        except BaseException:  # interrupted: nobody takes the answer
            if final is not None:
                race.late(final)
            self._let_go()
            raise

    def _let_go(self) -> None:
        unwanted = self._race.unwanted
        while unwanted:
            let_go(unwanted.pop(), self._discard)
