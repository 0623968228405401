"""Asks HTTP endpoints that fell silent, or that no connection came about to, whether they are there.

One thread per process does it, with a connection of its own per question: pools neither say whether they are
connected nor lend a connection. It also says to each balancer that the process is awake. What is asked is
``OPTIONS *``, which RFC 9110, section 9.3.7, calls a ping; under TLS the first message of a handshake.
Any byte is a sign of life, and so is a connection that the endpoint ends in order.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import ipaddress
import selectors
import socket
import ssl
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Protocol

from trimtab.balancer import BEAT_S, Balancer, Node
from trimtab.client.forking import watch_forks

CONNECT_S = 1.0
"""The longest wait for a connection [s]."""
ANSWER_S = 10.0
"""The longest wait for an answer over it [s]: who is frozen answers the moment that it isn't."""
_FIRST_PAUSE_S, _MOST_PAUSE_S = 0.5, 5.0

Address = tuple[socket.AddressFamily, tuple[str, int]]


class Asking(Protocol):
    """A cluster, as far as questions go; called from the thread."""

    service: str
    tls: bool
    balancer: Balancer

    def beat(self) -> None:
        """The process is awake: every second."""

    def returned(self, node: Node, *, connects: bool) -> None:
        """A resting node was asked whether it takes connections."""


class Question:
    """One connection to an endpoint, until it is known what it is worth.

    Args:
        address: of the endpoint.
        words: what to send; None: to be connected is all that is wanted.
        told: called once: whether it gave what was wanted.

    Attributes:
        connected: whether only the answer is wanting.
    """

    def __init__(self, address: Address, words: bytes | None, told: Callable[[bool], None]) -> None:
        self._words = words
        self.connected = False
        self._told: Callable[[bool], None] | None = told
        family, where = address
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self._refused = self.socket.connect_ex(where) not in {0, errno.EINPROGRESS}

    def begin(self, selector: selectors.BaseSelector) -> bool:
        """Whether there is something to wait for."""
        if self._refused:
            self.end(selector, good=False)
            return False
        selector.register(self.socket, selectors.EVENT_WRITE, self)
        return True

    def go_on(self, selector: selectors.BaseSelector) -> None:
        """The socket has something to say."""
        try:
            if self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.end(selector, good=False)
            elif self._words is None:
                self.end(selector, good=True)
            elif self.connected:  # an answer, or an orderly end
                self.socket.recv(1)
                self.end(selector, good=True)
            else:
                self.connected = True
                self.socket.send(self._words)
                selector.modify(self.socket, selectors.EVENT_READ, self)
        except OSError:
            self.end(selector, good=False)

    def end(self, selector: selectors.BaseSelector, *, good: bool) -> None:
        """It is over; every call after the first does nothing."""
        told, self._told = self._told, None
        if told is not None:
            with contextlib.suppress(KeyError):
                selector.unregister(self.socket)
            self.socket.close()
            told(good)


class Liveness:
    """The thread. It begins with the first cluster, and again in a forked child that makes one."""

    def __init__(self) -> None:
        self._clock = time.monotonic  # noqa: TID251 - a thread of real sockets
        self._sockets: tuple[selectors.BaseSelector, socket.socket] | None = None
        self.forked()

    def forked(self) -> None:
        """See ``forking.Copied``."""
        self._parents = self._sockets  # kept: they are not ours to close
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._has_sockets = False
        self._clusters: weakref.WeakSet[Asking] = weakref.WeakSet()
        self._inbox: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()
        self._silent: set[tuple[Asking, Node]] = set()  # who is being asked

    # From any thread.

    def attend(self, cluster: Asking) -> None:
        """Say to its balancer that the process is awake, from now on."""
        with self._starting:
            self._clusters.add(cluster)
        self._do(lambda: None)

    def leave(self, cluster: Asking) -> None:
        """Its balancer is not used any more."""
        with self._starting:
            self._clusters.discard(cluster)

    def ask_silent(self, cluster: Asking, node: Node) -> None:
        """Ask a silent node until it answers, or is silent no more; once at a time. Doesn't block."""

        def begin() -> None:
            if (cluster, node) not in self._silent:
                self._silent.add((cluster, node))
                self._ask_silent(cluster, node, _FIRST_PAUSE_S)

        self._do(begin)

    def ask_resting(self, cluster: Asking, node: Node, at: float) -> None:
        """Ask a node once at that time whether it takes connections. Doesn't block."""
        held = weakref.ref(cluster)

        def ask() -> None:
            there = held()
            if there is None or there not in self._clusters:
                return  # it was closed or dropped meanwhile, and would be told again and again
            self._ask(node, None, lambda connects: there.returned(node, connects=connects))

        self._do(lambda: self._later(at, ask))

    def _do(self, step: Callable[[], None]) -> None:
        self._inbox.append(step)
        if self._thread is None:
            self._begin()
        with contextlib.suppress(OSError):  # full: it is awake already
            self._waker.send(b".")

    def _begin(self) -> None:
        """Start the thread. Where the process has as many as it may, whoever has something to do next tries again."""
        with self._starting:
            if not self._has_sockets:
                watch_forks(self)
                self._selector = selectors.DefaultSelector()
                self._waker, woken = socket.socketpair()
                self._waker.setblocking(False)
                woken.setblocking(False)
                self._selector.register(woken, selectors.EVENT_READ)
                self._sockets = self._selector, self._waker
                self._has_sockets = True
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="trimtab-http", daemon=True)
                with contextlib.suppress(RuntimeError):
                    thread.start()
                    self._thread = thread

    # In the thread.

    def _run(self) -> None:
        beat_at = 0.0
        while True:
            now = self._clock()
            with self._starting:
                clusters = list(self._clusters)
            if now >= beat_at:
                beat_at = now + BEAT_S
                _beat(clusters)
            due = [self._timers[0][0]] if self._timers else []
            if clusters:
                due.append(beat_at)
            del clusters
            for key, _ in self._selector.select(max(0.0, min(due) - now) if due else None):
                if isinstance(key.data, Question):
                    key.data.go_on(self._selector)
                else:
                    key.fileobj.recv(4096)  # type: ignore[union-attr]  # the waker's other end
            while self._inbox:
                self._inbox.popleft()()
            while self._timers and self._timers[0][0] <= self._clock():
                heapq.heappop(self._timers)[2]()

    def _later(self, at: float, step: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (at, next(self._number), step))

    def _ask_silent(self, cluster: Asking, node: Node, pause: float) -> None:
        if cluster not in self._clusters or not cluster.balancer.is_silent(node):
            self._silent.discard((cluster, node))
            return

        def told(alive: bool) -> None:
            if alive:
                self._silent.discard((cluster, node))
                cluster.balancer.alive(node)
            else:
                again = min(2.0 * pause, _MOST_PAUSE_S)
                self._later(self._clock() + pause, lambda: self._ask_silent(cluster, node, again))

        self._ask(node, words(cluster), told)

    def _ask(self, node: Node, said: bytes | None, told: Callable[[bool], None]) -> None:
        host, port = node.endpoint.address, node.endpoint.port
        try:
            version = ipaddress.ip_address(host).version
        except ValueError:
            self._resolve(host, port, lambda found: self._connect(found, said, told))
            return
        family = socket.AF_INET if version == 4 else socket.AF_INET6  # noqa: PLR2004 - of IP
        self._connect((family, (host, port)), said, told)

    def _resolve(self, host: str, port: int, then: Callable[[Address | None], None]) -> None:
        """DNS takes its time, which is not the thread's."""

        def look() -> None:
            found: Address | None = None
            with contextlib.suppress(OSError, UnicodeError):  # the latter of a name that is none
                first = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
                found = first[0], (str(first[4][0]), port)
            self._do(lambda: then(found))

        try:
            threading.Thread(target=look, name="trimtab-http-dns", daemon=True).start()
        except (
            RuntimeError
        ):  # the process has as many threads as it may: this one must not end of it
            then(None)

    def _connect(
        self, address: Address | None, said: bytes | None, told: Callable[[bool], None]
    ) -> None:
        try:
            question = None if address is None else Question(address, said, told)
        except OSError:  # no file descriptors are left
            question = None
        if question is None:
            told(False)
        elif question.begin(self._selector):
            now = self._clock()
            self._later(now + CONNECT_S, lambda: self._end_unless_connected(question))
            self._later(now + ANSWER_S, lambda: question.end(self._selector, good=False))

    def _end_unless_connected(self, question: Question) -> None:
        if not question.connected:
            question.end(self._selector, good=False)


def _beat(clusters: list[Asking]) -> None:
    """Apart, since the thread's own frame must not keep the last of them alive while it waits."""
    for cluster in clusters:
        cluster.beat()


def words(cluster: Asking) -> bytes:
    """What an endpoint of a cluster is asked."""
    host = cluster.service.rpartition(":")[0] or cluster.service
    if not cluster.tls:
        return (
            f"OPTIONS * HTTP/1.1\r\nHost: {cluster.service}\r\nUser-Agent: trimtab\r\n"
            "Content-Length: 0\r\nConnection: close\r\n\r\n"
        ).encode("latin-1", "replace")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is said to it, and nothing believed
    to_send = ssl.MemoryBIO()
    try:
        greeting = context.wrap_bio(ssl.MemoryBIO(), to_send, server_hostname=host)
    except ValueError:  # no name that TLS could say
        greeting = context.wrap_bio(ssl.MemoryBIO(), to_send)
    with contextlib.suppress(ssl.SSLWantReadError):
        greeting.do_handshake()
    return to_send.read()


LIVENESS = Liveness()
"""This process's."""
