"""Blocking stubs' calls that return at once, with further attempts: ``future()`` and streams.

Attempts begin where the last one ended: in gRPC's thread that says so, in the thread that iterates, or in
that of ``Alarms`` after a pause. Nothing here waits but ``next``. What gRPC calls back refers to an
attempt weakly, so that a call which its caller drops is cancelled as ever.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any

import grpc

from trimtab.attempt import Verdict
from trimtab.client.afterwards import afterwards
from trimtab.client.alarms import Alarms
from trimtab.client.attempts import Request, Visit, trail
from trimtab.client.ended_call import EndedCall
from trimtab.client.observing import End
from trimtab.client.unreached import end_of
from trimtab.client.unsettled_call import UnsettledCall
from trimtab.client.wakeup import Waiters

_CANCELLED = grpc.StatusCode.CANCELLED.name
_TOO_LATE = grpc.StatusCode.DEADLINE_EXCEEDED


CHANNEL_CLOSED = "the channel was closed"


def ends_without(reason: object) -> EndedCall:
    """The end of a call that is under way while its channel is closed."""
    return EndedCall(grpc.StatusCode.CANCELLED, f"no further attempt could begin: {reason}")


class Run:
    """One request's attempts, from any thread.

    Args:
        state: the request's.
        clock: seconds, monotonic.
        alarms: for pauses and hedges.
        begin: begins an attempt with its timeout [s].
        stream: whether the response or the request is one: then an attempt's own time is that until its
            first message, or until there can be no other attempt.
        end: to be told the status; None: nobody asks.
    """

    def __init__(
        self,
        state: Request,
        clock: Callable[[], float],
        alarms: Alarms,
        begin: Callable[[float | None], Any],
        *,
        stream: bool,
        end: End | None,
    ) -> None:
        self._state = state
        self._clock = clock
        self._alarms = alarms
        self._begin = begin
        self._stream = stream
        self._end = end
        self._context = copy_context()  # the caller's: attempts begin in other threads as well
        self._lock = threading.RLock()
        self._waiters = Waiters()
        self._running: list[tuple[Any, Visit]] = []
        self._expired: Any = None
        self._last: Any = None
        self._read: Any = None
        self._over = False
        self._armed: float | None = None
        self._face: Callable[[], AttemptedCall | None] = lambda: None
        self._kept: AttemptedCall | None = None

    def start(self, face: AttemptedCall) -> None:
        """Make the first attempt.

        Args:
            face: what the caller has in hand; settled with the attempt that ends the request.
        """
        self._face = weakref.ref(face)
        self._launch()
        self._arm()

    def keep(self, face: AttemptedCall) -> None:
        """Somebody counts on the call although he may drop it."""
        with self._lock:
            if not self._over:
                self._kept = face

    def stop(self) -> None:
        """The caller wants no answer: cancel what is under way."""
        with self._lock:
            running = self._finish()
            self._kept = None
        for call in running:
            call.cancel()
        self.tell(_CANCELLED)

    def open(self, call: Any) -> bool:
        """The first message of an attempt has come: it is the caller's; False if it comes too late."""
        with self._lock:
            # One whose time was up is being cancelled: with its first message its caller would get that.
            if self._over or call is self._expired or self._take(call) is None:
                return False
            self._state.opened(self._clock())
            others = self._finish()
        self._settle(call, others)
        return True

    def commit(self, call: Any) -> bool:
        """The caller sees an attempt's answer begin: no other one follows; False if it has ended."""
        with self._lock:
            if (
                self._over
                or call is self._expired
                or all(each is not call for each, _ in self._running)
            ):
                return False
            self._state.commit()
            return True

    def under_way(self) -> Any:
        """The attempt that runs, of those that follow one another; waits while there is none; None: it is over."""
        while True:
            self._waiters.wait_for(lambda: self._over or self._running)
            running = self._running.copy()  # it may end this moment
            if self._over:
                return None
            if running:
                return running[0][0]

    def past(self, call: Any) -> None:
        """Wait until this attempt runs no more: who reads from it says so, or gRPC."""
        self._waiters.wait_for(
            lambda: self._over or all(each is not call for each, _ in self._running.copy())
        )

    def read(self) -> Any:
        """The same, to read from.

        Who reads says what came of it, by ``open`` or ``ended``: a message may come with the end.
        """
        while True:
            call = self.under_way()
            with self._lock:
                if call is None or any(each is call for each, _ in self._running):
                    self._read = call
                    return call

    def _called_back(self, call: Any) -> None:
        with self._lock:
            if call is self._read:
                return
        self.ended(call)

    def ended(self, call: Any) -> None:
        """An attempt has ended; every call after the first does nothing."""
        others = None
        with self._lock:
            visit = None if self._over else self._take(call)
            if visit is None:
                return
            if call is self._expired:
                call = self._too_late()
            self._last = call
            now = self._clock()
            end = end_of(self._state, visit, now, call)
            verdict = self._state.course.ended(now, end)
            if verdict is Verdict.FINAL:
                others = self._finish()
        if others is not None:
            self._settle(call, others)
        elif verdict is Verdict.AGAIN:
            self._launch_later()
        self._arm()

    def _too_late(self) -> EndedCall:
        limit = self._state.course.first_message_s
        return EndedCall(_TOO_LATE, f"no message within the attempt's {limit} s")

    def _launch(self) -> None:
        """Make an attempt; the course counts it as running already. Raises as ``begin`` does."""
        course = self._state.course
        now = self._clock()
        timeout = course.left(now) if self._stream else course.attempt_timeout(now)
        visit = Visit(self._state.been)
        call = self._context.copy().run(self._attempt, visit, timeout)
        with self._lock:
            over = self._over
            if not over:
                self._running.append((call, visit))
        self._waiters.tell()
        if over:
            call.cancel()
            return
        ref = weakref.ref(call)

        def end() -> None:
            ended = ref()
            if ended is not None:
                self._called_back(ended)

        if not call.add_callback(end):
            self.ended(call)
        elif self._stream and course.first_message_s is not None:
            self._alarms.at(now + course.first_message_s, lambda: self._expire(ref()))

    def _attempt(self, visit: Visit, timeout: float | None) -> Any:
        trail.set(visit)
        return self._begin(timeout)

    def _launch_later(self) -> None:
        """Make a further attempt; nobody is there to take an exception."""
        try:
            self._launch()
        except Exception as error:  # noqa: BLE001 - a closed channel, or the caller's serializer
            with self._lock:
                others = None if self._over else self._finish()
            if others is not None:
                self._settle(ends_without(error), others, elsewhere=True)

    def _expire(self, call: Any) -> None:
        with self._lock:
            if self._over or not any(each is call for each, _ in self._running):
                return
            if self._alarms.closed or self._state.committed:
                return  # the channel ends it, and its time is not up; or its answer is the caller's
            self._expired = call  # a stream's attempts follow one another
        call.cancel()

    def _arm(self) -> None:
        """Come back when the course wants to be asked."""
        with self._lock:
            at = self._state.course.next_at
            if at is None or self._over or at == self._armed:
                return
            self._armed = at
        self._alarms.at(at, self._tick)

    def _tick(self) -> None:
        others = None
        with self._lock:
            if self._over:
                return
            self._armed = None
            course = self._state.course
            if self._alarms.closed:
                if course.running:
                    return  # they are being cancelled, and what follows one comes here again
                due, last, others = False, ends_without(CHANNEL_CLOSED), self._finish()
            else:
                due = course.due(self._clock())
                if not due and not course.running and course.next_at is None:
                    last, others = self._last, self._finish()
        if due:
            self._launch_later()
        elif others is not None:
            self._settle(last, others, elsewhere=True)  # this is the thread of all alarms
        self._arm()

    def _take(self, call: Any) -> Visit | None:
        """Take an attempt from those that run; None: it was not among them."""
        # One and the same list, should the caller cancel out of a signal handler in between.
        running = self._running
        for place, (each, visit) in enumerate(running):
            if each is call:
                del running[place]
                return visit
        return None

    def _finish(self) -> list[Any]:
        """It is over; returns what has to be cancelled, and holds on to nothing."""
        self._over = True
        running = [call for call, _ in self._running]
        self._running = []
        self._last = self._read = self._expired = None
        self._state.let_go()
        self._waiters.tell()
        return running

    def _settle(self, call: Any, others: list[Any], *, elsewhere: bool = False) -> None:
        """Give the caller this one. Not under the lock: his callbacks run here, or ``elsewhere``."""
        face, self._kept = self._face(), None
        if face is not None and not face.settle(call, elsewhere=elsewhere):
            call.cancel()
        for other in others:
            other.cancel()
        if self._end is None:
            return
        ref = weakref.ref(call)

        def end() -> None:
            ended = ref()
            self.tell(_CANCELLED if ended is None else ended.code().name)

        if not call.add_callback(end):
            end()

    def tell(self, status: str) -> None:
        """Tell who watches how the call has ended; the first word counts."""
        with self._lock:
            end, self._end = self._end, None
        if end is not None:
            end(status)


class AttemptedCall(UnsettledCall):
    """A call that has yet to succeed in one of its attempts, or to fail in the last.

    Args:
        run: makes the attempts.
        deadline: of the call, by ``clock``; None for never.
        clock: seconds, monotonic.
    """

    def __init__(self, run: Run, deadline: float | None, clock: Callable[[], float]) -> None:
        super().__init__(deadline, clock)
        self._run = run

    def __del__(self) -> None:
        if self.waiting:
            afterwards(self._run.stop)
        elif not self._call.done():
            afterwards(partial(self._run.tell, _CANCELLED))

    def keep(self) -> None:
        """See the base."""
        self._run.keep(self)

    def cancel(self) -> bool:
        """End it and its attempts; False if it has ended already."""
        unsettled = self.waiting
        cancelled = super().cancel()
        if unsettled:
            self._run.stop()
        elif cancelled:
            self._run.tell(
                _CANCELLED
            )  # gRPC's single-threaded streams wouldn't, if nobody reads on
        return cancelled


class AttemptedStream(AttemptedCall):
    """The same, of a call whose response is a stream: until its first message."""

    def __init__(self, run: Run, deadline: float | None, clock: Callable[[], float]) -> None:
        super().__init__(run, deadline, clock)
        self._opening = threading.Lock()
        self._first: list[Any] = []

    def initial_metadata(self) -> Any:
        """Blocks until the first message is there, or the end: whose it is is known then."""
        with self._opening:
            self._open()
        return super().initial_metadata()

    def __next__(self) -> Any:
        with self._opening:
            self._open()
            if self._first:
                return self._first.pop()
        return super().__next__()

    def _open(self) -> None:
        """Read on in one attempt after the other until one has a message, or all have ended."""
        try:
            self._read_on()
        except BaseException:  # KeyboardInterrupt and the like: nobody waits any more
            self.cancel()
            raise

    def _read_on(self) -> None:
        while self.waiting:
            call = self._run.read()
            if call is None:
                self._settled()
                return
            try:
                message = next(call)
            except (StopIteration, grpc.RpcError):
                self._run.ended(call)
                continue
            if self._run.open(call):
                self._first.append(message)


class _HeadersCommit(AttemptedCall):
    """A request that is a stream may hang on the response's headers: who asks for them gets an attempt's own."""

    def initial_metadata(self) -> Any:
        """Blocks until an attempt has them, which is the last one then, or until the end."""
        while self.waiting:
            call = self._run.under_way()
            if call is None:
                break
            found = call.initial_metadata()
            if call.is_active() and self._run.commit(call):
                return found
            self._run.past(call)
        return UnsettledCall.initial_metadata(self)


class AttemptedRequests(_HeadersCommit):
    """A call whose request is a stream, and whose response is not."""


class AttemptedExchange(_HeadersCommit, AttemptedStream):
    """A call of which both are streams."""
