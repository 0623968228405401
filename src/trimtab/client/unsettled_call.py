"""A sync call that its caller has in hand before gRPC's own is known.

``.future()`` and streaming calls must return at once. Until it is known which native call (or which end
without one) is the caller's, this object stands for it; from then on it passes everything on.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import grpc

from trimtab.client.ended_call import LOCALLY_CANCELLED, EndedCall
from trimtab.client.wakeup import Waiters

_log = logging.getLogger("trimtab.client")


def _call_back(callbacks: list[Callable[[], None]]) -> None:
    """As gRPC does it: one that raises is the log's, and the others' turn comes all the same."""
    for callback in callbacks:
        try:
            callback()
        except Exception:  # noqa: BLE001 - the caller's
            _log.exception("a callback of a call raised")


def _call_back_elsewhere(callbacks: list[Callable[[], None]]) -> None:
    thread = threading.Thread(
        target=_call_back, args=(callbacks,), name="trimtab-callbacks", daemon=True
    )
    try:
        thread.start()
    except RuntimeError:  # the process has as many threads as it may, or ends
        _call_back(callbacks)


class UnsettledCall(grpc.RpcError, grpc.Call, grpc.Future):  # type: ignore[type-arg]  # generic in stubs only
    """A call that is yet to be known; whoever makes it calls ``settle`` once.

    Args:
        deadline: when its time is over, by ``clock``; None for never.
        clock: seconds, monotonic.
    """

    def __init__(self, deadline: float | None, clock: Callable[[], float]) -> None:
        super().__init__()
        self.deadline = deadline
        self._clock = clock
        # No lock: a signal handler that cancels the call, as gRPC's own examples do, may come in between any two steps.
        self._settled_as: dict[None, Any] = {}  # one entry at most; ``setdefault`` is atomic
        self._waiters = Waiters()
        self._callbacks: deque[list[Callable[[], None]]] = (
            deque()
        )  # whoever pops one's content has it

    def keep(self) -> None:
        """Somebody counts on the call although he may drop it."""

    @property
    def _call(self) -> Any:
        """What it settled as; None: it hasn't."""
        return self._settled_as.get(None)

    @property
    def waiting(self) -> bool:
        """Whether it is not settled yet."""
        return self._call is None

    def left(self) -> float | None:
        """What is left of its time [s]; None for no limit."""
        return None if self.deadline is None else max(0.0, self.deadline - self._clock())

    def settle(self, call: Any, *, elsewhere: bool = False) -> bool:
        """It left as the native ``call``, or ended as an ``EndedCall``; False if it had before.

        ``elsewhere``: the running thread has others to serve. The caller's callbacks may block, and may call again
        over this very channel; so they run in another one.
        """
        if self._settled_as.setdefault(None, call) is not call:
            return False
        self._waiters.tell()
        now = []
        for held in list(self._callbacks):
            with suppress(IndexError):  # who added it has found the call settled
                callback = held.pop()
                if not call.add_callback(callback):
                    now.append(callback)
        self._callbacks.clear()
        if now:
            (_call_back_elsewhere if elsewhere else _call_back)(now)
        return True

    def _settled(self, timeout: float | None = None) -> Any:
        until = None if timeout is None else self._clock() + timeout
        settled = self._waiters.wait_for(
            lambda: self._settled_as,
            lambda: None if until is None else until - self._clock(),
        )
        if not settled:
            raise grpc.FutureTimeoutError
        return self._call

    def _rest(self, timeout: float | None) -> tuple[Any, float | None]:
        """The call, and what is left of a wait for it."""
        begin = self._clock()
        call = self._settled(timeout)
        return call, None if timeout is None else max(0.0, timeout - (self._clock() - begin))

    # grpc.Call

    def code(self) -> grpc.StatusCode:
        """The status; blocks until it is there."""
        code: grpc.StatusCode = self._settled().code()
        return code

    def details(self) -> str:
        """The status text; blocks until it is there."""
        details: str = self._settled().details()
        return details

    def debug_error_string(self) -> str:
        """The description of the error; blocks until it is there."""
        text: str = self._settled().debug_error_string()
        return text

    def initial_metadata(self) -> Any:
        """Blocks until it is there."""
        return self._settled().initial_metadata()

    def trailing_metadata(self) -> Any:
        """Blocks until it is there."""
        return self._settled().trailing_metadata()

    def is_active(self) -> bool:
        """Whether it has not ended."""
        return self._call is None or bool(self._call.is_active())

    def time_remaining(self) -> Any:
        """What is left of its time [s]; None for no limit."""
        return self.left() if self._call is None else self._call.time_remaining()

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Call back when it ends; False if it has ended."""
        if self._call is None:
            held = [callback]
            self._callbacks.append(held)
            if self.waiting:  # still
                self.keep()
                return True
            try:
                held.pop()
            except IndexError:  # it was settled meanwhile, and told to call back
                return True
        return bool(self._call.add_callback(callback))

    # grpc.Future

    def cancel(self) -> bool:
        """End it; False if it has ended already."""
        cancelled = EndedCall(grpc.StatusCode.CANCELLED, LOCALLY_CANCELLED, cancelled=True)
        return self.settle(cancelled) or bool(self._call.cancel())

    def cancelled(self) -> bool:
        """Whether ``cancel`` ended it."""
        return self._call is not None and bool(self._call.cancelled())

    def running(self) -> bool:
        """Whether it has not ended."""
        return self._call is None or bool(self._call.running())

    def done(self) -> bool:
        """Whether it has ended."""
        return self._call is not None and bool(self._call.done())

    def result(self, timeout: float | None = None) -> Any:
        """The response; blocks up to ``timeout`` [s]. Raises as gRPC's own."""
        call, rest = self._rest(timeout)
        return call.result(rest)

    def exception(self, timeout: float | None = None) -> Any:
        """The error or None; blocks up to ``timeout`` [s]. Raises as gRPC's own."""
        call, rest = self._rest(timeout)
        return call.exception(rest)

    def traceback(self, timeout: float | None = None) -> TracebackType | None:
        """The error's traceback or None; blocks up to ``timeout`` [s]. Raises as gRPC's own."""
        call, rest = self._rest(timeout)
        found: TracebackType | None = call.traceback(rest)
        return found

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Call ``fn`` with this object when it has ended."""
        if not self.add_callback(lambda: fn(self)):
            fn(self)

    # the iterator of a streaming response

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return next(self._settled())

    def __str__(self) -> str:
        call = self._call
        return f"<{type(self).__name__} that is under way>" if call is None else str(call)

    __repr__ = __str__
