"""``Watch`` of grpc.health.v1 in a server with threads: streams that hold none of them.

gRPC's Python server lends a thread to each stream for as long as it lasts, unless the handler says
that it sends by a callback (``experimental_non_blocking``, which gRPC's own health service uses as
well). Every client that watches health is such a stream, so a few of them would hold them all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import grpc

# gRPC blocks a sender until the message has left: these wait, and neither who sets readiness nor the
# server's threads.
_SENDERS = 4


class Watches:
    """The handler. Its marks are the class's, so that ``functools.wraps`` doesn't copy them.

    An interceptor that wraps it knows no callback: then a watch takes a thread after all.

    Args:
        answer: what to say now.
        listen: calls what it is given after each change; returns what ends that.
        most_threads: of the server, that watches which an interceptor wraps may hold.

    Raises:
        ValueError: a wrong number of them.
    """

    experimental_non_blocking = True

    def __init__(
        self,
        answer: Callable[[], bytes],
        listen: Callable[[Callable[[], None]], Callable[[], None]],
        most_threads: int,
    ) -> None:
        self._answer = answer
        self._listen = listen
        self._senders = ThreadPoolExecutor(_SENDERS, "trimtab-readiness")
        if type(most_threads) is not int or most_threads < 0:
            raise ValueError(f"watch_threads={most_threads!r} is not a number of threads from 0")
        # No semaphore: a watch that is garbage gives its place back in the middle of anything.
        self._free = [None] * most_threads

    @property
    def experimental_thread_pool(self) -> ThreadPoolExecutor:
        """Where gRPC runs this, unless an interceptor wraps it."""
        return self._senders

    def __call__(
        self, _request: bytes, context: Any, send: Callable[[bytes], object] | None = None
    ) -> Iterator[bytes] | None:
        """Called by gRPC, with ``send`` where nothing wraps this."""
        if send is None:
            return self._in_a_thread(context)
        sender = _Sender(self._answer, send)

        def tell() -> None:
            with suppress(RuntimeError):  # the interpreter ends: nobody sends any more
                self._senders.submit(sender)

        forget = self._listen(tell)
        if context.add_callback(forget):
            sender()
        else:  # it has ended already
            forget()
        return None

    def _in_a_thread(self, context: Any) -> Iterator[bytes]:
        try:
            self._free.pop()
        except IndexError:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "no thread for another Watch; Check works")
        changed, ended = threading.Event(), threading.Event()

        def end() -> None:
            ended.set()
            changed.set()

        forget = self._listen(changed.set)
        try:
            if not context.add_callback(end):
                return
            while not ended.is_set():
                changed.clear()
                yield self._answer()
                changed.wait()
        finally:
            forget()
            self._free.append(None)


class _Sender:
    """Says what is new on one stream; one message at a time, and the last is what is true."""

    def __init__(self, answer: Callable[[], bytes], send: Callable[[bytes], object]) -> None:
        self._answer = answer
        self._send = send
        self._said = b""
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            answer = self._answer()
            if answer != self._said:
                self._said = answer
                self._send(answer)
