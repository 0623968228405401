"""One kind of object, kept equal to the API server's.

Three generators, one concern each: ``_watch`` reads one watch, ``_follow`` lists when it must and
watches otherwise, ``batches`` waits between failures. What is known is never given up while the
API server is away; a new list is applied as a difference.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from random import Random

from trimtab.backoff import Backoff
from trimtab.discovery import Contact, ReportProblem
from trimtab.discovery.kube_objects import Watched
from trimtab.discovery.kubernetes import metrics
from trimtab.discovery.kubernetes.api import Api, ApiError, Expired, Target
from trimtab.discovery.kubernetes.lines import Lines
from trimtab.discovery.kubernetes.timing import Timing
from trimtab.discovery.kubernetes.turns import Turn
from trimtab.discovery.kubernetes.versions import Versions
from trimtab.discovery.kubernetes.wire import (
    Event,
    Failure,
    Key,
    decode_event,
    differences,
)
from trimtab.discovery.pause import pause
from trimtab.errors import ProtocolError
from trimtab.telemetry import Counters

_LOG = logging.getLogger(__name__)

_EMPTY_ENDS = 3  # watches in a row that end at once, before the version is taken for too old
_LISTS_AT_ONCE = 2  # lists in a row, before the next one has to wait its turn
_TRIES = 3  # lists begun anew because their pages expired, before it counts as a failure


@dataclass(frozen=True, slots=True)
class Gone:
    """An object that is not there any more."""

    key: Key


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes that belong together, in order.

    Attributes:
        items: objects as they are now, and those that are gone; none twice.
        complete: whether this is everything that exists.
    """

    items: list[Watched | Gone]
    complete: bool = False


class Reflector:
    """The state of one list and watch.

    Args:
        api: the API server.
        target: what to read.
        timing: how long to wait for what.
        random: draws the jitter.
        clock: loop time [s].
        report: hears of every object that can't be used.
        counters: what is counted; with the source's name as first label.
        label: the source's name.
    """

    def __init__(
        self,
        api: Api,
        target: Target,
        *,
        timing: Timing,
        random: Random,
        clock: Callable[[], float],
        report: ReportProblem,
        counters: Counters,
        label: str,
    ) -> None:
        self.target = target
        self.heard: float | None = None
        self.failing_since: float | None = None
        self.reason = ""
        self._api = api
        self._timing = timing
        self._random = random
        self._clock = clock
        self._report = report
        self._counters = counters
        self._label = label
        self._books = Versions()
        self._empty_ends = 0
        self._opened: float | None = None
        self._reading: asyncio.Timeout | None = None
        counters.add(metrics.REPAIRS, label, target.resource.plural, by=0)

    def contact(self) -> Contact:
        """How it stands with the API server."""
        return Contact(self.heard, self.failing_since, self.reason)

    def relist(self) -> None:
        """Take a new list at once: what is known is in doubt."""
        self._books.doubt()
        if self._reading is not None:
            with suppress(RuntimeError):  # it is ending just now
                self._reading.reschedule(asyncio.get_running_loop().time())

    async def batches(self) -> AsyncGenerator[Batch]:
        """What changes, for ever: every failure is waited out."""
        first_s, cap_s = self._timing.backoff_s
        backoff = Backoff(self._random, first_s=first_s, cap_s=cap_s)
        while True:
            self._opened = None
            try:
                async with aclosing(self._follow()) as following:
                    async for batch in following:
                        yield batch
            except ApiError as error:
                now = self._clock()
                if self._healthy(now):
                    backoff.reset()
                delay = max(backoff.next(), error.retry_after or 0.0)
                self._failed(error, now, delay)
                await pause(delay)

    def _healthy(self, now: float) -> bool:
        """Whether the watch that just failed had been open for long enough."""
        return self._opened is not None and now - self._opened >= self._timing.healthy_s

    async def check(self) -> int:
        """Compare what is known with a list of the same version; mend differences by a new list.

        A watch that loses an event can't be noticed otherwise (client-go has the same as its data
        consistency detector). Returns how many objects differed.

        Raises:
            ApiError: the list can't be had.
        """
        version, known = self._books.reached, dict(self._books.known)
        if not version:
            return 0
        listed: dict[Key, str] = {}
        try:
            async with aclosing(self._api.pages(self.target, exactly=version, heads=True)) as pages:
                async for page in pages:
                    listed.update(page.seen)
        except Expired:
            return 0  # compacted meanwhile; the next time
        self._count(metrics.CHECKS)
        wrong = sorted(differences(known, listed))
        if wrong:
            self._counters.add(
                metrics.REPAIRS, self._label, self.target.resource.plural, by=len(wrong)
            )
            _LOG.warning(
                "%s: %d %s differ from the API server's (%s); listing anew",
                self._label,
                len(wrong),
                self.target,
                ", ".join(f"{namespace}/{name}" for namespace, name in wrong[:5]),
            )
            self.relist()
        return len(wrong)

    async def _follow(self) -> AsyncGenerator[Batch]:
        """List when there is no version to go on from; else watch, again and again."""
        lists = 0
        listed = self._clock()
        while True:
            if not self._books.reached:
                now = self._clock()
                lists = lists + 1 if now - listed < self._timing.healthy_s else 1
                if lists > _LISTS_AT_ONCE:
                    raise ApiError(
                        f"what a list of {self.target} begins does not last", reason="relist"
                    )
                listed = now
                yield await self._list()
            began = self._clock()
            progress = False
            try:
                async with aclosing(self._watch()) as watching:
                    async for batch in watching:
                        progress = True
                        yield batch
            except Expired:
                self._books.doubt()
                continue
            lived = self._clock() - began
            if lived >= self._timing.short_watch_s:
                self._well()  # a server that ends a watch in order is there
            if progress or lived >= self._timing.short_watch_s:
                self._empty_ends = 0
            elif self._books.reached:
                self._ended_at_once()

    def _ended_at_once(self) -> None:
        # Some servers end a watch of a version that is too old without saying 410
        # (kubernetes/kubernetes#104171).
        self._empty_ends += 1
        if self._empty_ends >= _EMPTY_ENDS:
            self._empty_ends = 0
            self._books.doubt()
        raise ApiError(f"a watch of {self.target} ended at once", reason="empty_watch")

    async def _list(self) -> Batch:
        """Everything, as the difference to what is known."""
        for attempt in range(_TRIES):
            objects: list[Watched] = []
            seen: dict[Key, str] = {}
            version = ""
            problems = []
            try:
                async with aclosing(self._api.pages(self.target)) as pages:
                    async for page in pages:
                        version = version or page.version
                        objects.extend(page.objects)
                        seen.update(page.seen)
                        problems.extend(page.problems)
                break
            except Expired:  # a page's token: the list's moment has passed
                if attempt == _TRIES - 1:
                    raise
        for problem in problems:
            self._report(problem)
        gone = [Gone(key) for key in self._books.list(version, seen)]
        self._count(metrics.LISTS)
        self._well()
        return Batch([*objects, *gone], complete=True)

    async def _watch(self) -> AsyncGenerator[Batch]:
        """One watch, until it ends, falls silent, or a new list is wanted."""
        seconds = self._random.uniform(*self._timing.watch_s)
        lines = Lines()
        async with self._api.watch(self.target, self._books.reached, seconds) as chunks:
            self._opened = self._clock()
            self._count(metrics.WATCHES)
            async with self._lasting(), aclosing(chunks()) as reading:
                while self._books.reached:
                    try:
                        async with asyncio.timeout(self._idle_s(seconds)) as self._reading:
                            chunk = await anext(reading, b"")
                    except TimeoutError:
                        if not self._books.reached:
                            return
                        raise ApiError(
                            f"a watch of {self.target} fell silent for "
                            f"{self._idle_s(seconds):g} s; the connection is taken for dead",
                            reason="silent",
                        ) from None
                    finally:
                        self._reading = None
                    if not chunk or not self._books.reached:
                        return  # nothing of what came with the wish for a new list counts
                    batch, error = await self._read(lines, chunk)
                    if batch.items:
                        yield batch
                    if error is not None:
                        raise error
                    await Turn().give()  # chunks may be there faster than they can be read

    @asynccontextmanager
    async def _lasting(self) -> AsyncGenerator[None]:
        """Count an open watch as healthy once it has lasted.

        That it was opened says nothing: a proxy or a server in trouble may answer 200 and fail
        then, again and again, while the view is frozen.
        """
        timer = asyncio.get_running_loop().call_later(self._timing.healthy_s, self._well)
        try:
            yield
        finally:
            timer.cancel()

    def _idle_s(self, seconds: float) -> float:
        longest = seconds + self._timing.idle_extra_s
        return min(longest, self._timing.bookmark_idle_s) if self._books.bookmarks else longest

    async def _read(self, lines: Lines, chunk: bytes) -> tuple[Batch, ApiError | None]:
        """What a chunk brings, and why nothing after it is to be read.

        Of an object that it brings several times only the last counts: the further behind this is,
        the larger are the chunks, and the fewer of their events cost more than the decoding.
        """
        items: dict[Key, Watched | Gone] = {}
        error: ApiError | None = None
        turn = Turn()
        try:
            for line in lines.feed(chunk):
                if turn.over:
                    await turn.give()
                if not self._books.reached:
                    break
                event = decode_event(self.target.resource, line)
                if isinstance(event, Failure):
                    error = self._refusal(event)
                    break
                self._count(metrics.EVENTS)
                self._well()
                item = self._take(event)
                if item is not None and event.key is not None:
                    items.pop(event.key, None)  # in the order of the last events
                    items[event.key] = item
        except ProtocolError as broken:
            # Whatever the line was about, only a list tells.
            self._books.doubt()
            error = ApiError(str(broken), reason="garbage")
        return Batch(list(items.values())), error

    def _refusal(self, failure: Failure) -> ApiError:
        text = f"a watch of {self.target} ended with {failure.code} {failure.message}"
        return Expired(text) if failure.expired else ApiError(text, reason="watch_error")

    def _take(self, event: Event) -> Watched | Gone | None:
        """What follows from an event, None for nothing."""
        if event.problem is not None:
            self._report(event.problem)
        if not self._books.take(event) or event.key is None:
            return None
        return Gone(event.key) if event.type == "DELETED" else event.obj

    def _count(self, metric: str) -> None:
        self._counters.add(metric, self._label, self.target.resource.plural)

    def _well(self) -> None:
        """What is known is as of now: the server told so."""
        self.heard = self._clock()
        if self.failing_since is not None:
            _LOG.info(
                "%s: reads %s again after %.1f s",
                self._label,
                self.target,
                self._clock() - self.failing_since,
            )
        self.failing_since = None
        self.reason = ""

    def _failed(self, error: ApiError, now: float, delay: float) -> None:
        self._counters.add(metrics.FAILURES, self._label, error.reason)
        if self.failing_since is None:
            self.failing_since = now
        self.reason = str(error)
        _LOG.warning(
            "%s: can't read %s: %s (%s; next try in %.1f s)",
            self._label,
            self.target,
            error,
            "what is known stays in use" if self._books.known else "nothing is known yet",
            delay,
        )
