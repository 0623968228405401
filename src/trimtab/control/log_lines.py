"""Writes lines to stderr in a thread of its own: whoever does not read them must not stop the event loop.

A pipe that nobody reads is full after 64 KiB, and a write to it waits for ever.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import threading
from collections import deque
from collections.abc import Callable

MOST_LINES = 5_000
STDERR = 2


def keep_stderr_from_blocking() -> None:
    """Nobody in this process waits at stderr any more, if that is a pipe: what finds it full is lost.

    gRPC's core writes a line for each stream that it refuses, in the threads that serve connections;
    strangers choose how many. The pipe is opened anew, since others may have this end of it too.
    """
    if not stat.S_ISFIFO(os.fstat(STDERR).st_mode):
        return
    # No /proc, no right to it, or nobody at the other end: it stays as it is.
    with contextlib.suppress(OSError):
        own = os.open(f"/proc/self/fd/{STDERR}", os.O_WRONLY | os.O_NONBLOCK)
        os.dup2(own, STDERR)
        os.close(own)


def to_stderr(text: str) -> None:
    """Write all of it, however long that takes.

    Past ``sys.stderr``: a thread that is stuck there holds its lock, and then no process ends well.

    Raises:
        OSError: nobody can read it any more.
    """
    rest = text.encode(errors="backslashreplace")
    while rest:
        try:
            rest = rest[os.write(STDERR, rest) :]
        except BlockingIOError:
            select.select((), (STDERR,), ())


class LogLines:
    """Lines on their way out: so many may wait, the rest is dropped and counted.

    Args:
        write: takes text that ends with a newline; may block, and raise ``OSError``.
        most: lines that wait.

    Attributes:
        dropped: lines that were lost, as they found too many waiting or could not be written.
    """

    def __init__(self, write: Callable[[str], None] = to_stderr, *, most: int = MOST_LINES) -> None:
        self.dropped = 0
        self._write = write
        self._most = most
        self._waiting: deque[str] = deque()
        self._untold = 0
        self._closed = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="log lines", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Have a line written, from any thread. Never blocks."""
        with self._news:
            if len(self._waiting) < self._most:
                self._waiting.append(f"{line}\n")
                self._news.notify()
            else:
                self._lost()
                self._untold += 1

    def close(self, within_s: float) -> None:
        """Write what waits, if somebody reads it in time; then nothing more."""
        with self._news:
            self._closed = True
            self._news.notify()
        self._thread.join(within_s)

    def _run(self) -> None:
        while (text := self._next()) is not None:
            try:
                self._write(text)
            except OSError:
                with self._news:
                    self._lost()

    def _next(self) -> str | None:
        with self._news:
            self._news.wait_for(lambda: self._waiting or self._untold or self._closed)
            if self._waiting:
                return self._waiting.popleft()
            untold, self._untold = self._untold, 0
            return f"({untold} lines of the log were dropped: nobody read it)\n" if untold else None

    def _lost(self) -> None:
        self.dropped += 1
