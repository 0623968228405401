"""The messages of a request that is a stream, kept so that another attempt can send them anew. gRFC A6, pure.

They are read from the caller once, in order, and not before an attempt asks for the next one. What an attempt has
sent is kept until no other one can follow: a response was taken, or more bytes were sent than may be kept. From
then on what the attempt has taken is let go.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

BUFFER_BYTES = 256 * 1024
"""How much is kept of one request: gRPC's own default (``grpc.per_rpc_retry_buffer_size``)."""


class Step(enum.Enum):
    """What an attempt does that finds no message.

    READ: read the caller's next one, then say ``add`` or ``end``, and ask again. WAIT: it is being read; ask
    again when that is done. END: there is no other one. OVER: the attempt has ended.
    """

    READ = enum.auto()
    WAIT = enum.auto()
    END = enum.auto()
    OVER = enum.auto()


class Kept:
    """One message: the caller's object until it is serialized, bytes from then on."""

    __slots__ = ("_bytes", "_message", "_recording")

    def __init__(self, message: Any, recording: Recording) -> None:
        self._message = message
        self._bytes: bytes | None = None
        self._recording = recording

    def serialized(self, serializer: Callable[[Any], bytes] | None) -> bytes:
        """Its bytes; ``serializer`` is asked once. Raises as that does."""
        found = self._bytes
        if found is None:
            try:
                found = self._message if serializer is None else serializer(self._message)
            except BaseException:
                self._recording.broken = True
                raise
            self._bytes = found
            self._message = None
            self._recording.grew(len(found))
        return found


class Recording:
    """What was read of one request.

    Args:
        limit: how many bytes are kept.
        lock: held for single decisions, where attempts run in threads.

    Attributes:
        error: what the caller's iterator raised; None: nothing.
        ended: it has no other message.
        broken: a message could not be read or serialized, so no attempt can end well.
    """

    __slots__ = ("_attempt", "_attempts", "_committed", "_gone", "_kept", "_lock", "_next", "_reading",
                 "_room", "broken", "ended", "error")  # fmt: skip

    def __init__(self, limit: int, lock: AbstractContextManager[Any]) -> None:
        self._room = limit
        self._lock = lock
        self._kept: deque[Kept] = deque()
        self._gone = 0  # messages that were let go
        self._next = 0  # what the attempt takes next, counted from the first message
        self._attempt = 0  # the one that runs; 0: none
        self._attempts = 0
        self._reading = False
        self._committed = False
        self.error: BaseException | None = None
        self.ended = False
        self.broken = False

    @property
    def repeatable(self) -> bool:
        """Whether another attempt could send the whole of it."""
        return not self._gone and not self.broken

    def begin(self) -> int:
        """An attempt begins, with the first message: its number, to ``take`` with.

        Raises:
            RuntimeError: the first message was let go since ``rewind``, as the caller wants no answer any more.
        """
        with self._lock:
            if self._gone:
                raise RuntimeError("the request's first messages are no longer kept")
            self._attempts += 1
            self._attempt = self._attempts
            self._next = 0
            return self._attempt

    def rewind(self) -> bool:
        """The attempt has ended without an answer; whether another one could send the whole of it."""
        with self._lock:
            repeatable = self.repeatable
            if repeatable:
                self._attempt = self._next = 0
            return repeatable

    def take(self, attempt: int) -> Kept | Step:
        """The next message of an attempt, or what to do for it."""
        with self._lock:
            if attempt != self._attempt:
                return Step.OVER
            place = self._next - self._gone
            if place < len(self._kept):
                found = self._kept[place]
                self._next += 1
                self._let_go()
                return found
            if self.ended:
                return Step.END
            if self._reading:
                return Step.WAIT
            self._reading = True
            return Step.READ

    def add(self, message: Any) -> None:
        """The caller's next message was read."""
        with self._lock:
            self._reading = False
            self._kept.append(Kept(message, self))

    def end(self, error: BaseException | None = None) -> None:
        """The caller has no other message, or raised ``error`` in its place."""
        with self._lock:
            self._reading = False
            self.ended = True
            self.error = error
            self.broken = self.broken or error is not None

    def commit(self) -> None:
        """There will be no other attempt: keep nothing that the one which runs has taken."""
        with self._lock:
            self._committed = True
            self._let_go()
            if not self._attempt:
                self._gone += len(self._kept)
                self._kept.clear()

    def grew(self, size: int) -> None:
        """A message of so many bytes was serialized."""
        with self._lock:
            self._room -= size
            if self._room < 0:
                self._committed = True
                self._let_go()

    def _let_go(self) -> None:
        while self._committed and self._gone < self._next:
            self._kept.popleft()
            self._gone += 1


class KeepingSerializer:
    """What serializes the messages of a method whose request streams may be recorded, and those of others.

    Args:
        plain: the caller's; None: messages are bytes.
    """

    __slots__ = ("plain",)

    def __init__(self, plain: Callable[[Any], bytes] | None) -> None:
        self.plain = plain

    def __call__(self, message: Any) -> bytes:
        """The bytes of a message, or of a ``Kept`` one."""
        if type(message) is Kept:
            return message.serialized(self.plain)
        found: bytes = message if self.plain is None else self.plain(message)
        return found
