"""Which connections each endpoint has: one for new requests, its successor, further ones, old ones.

``Node.transport`` is the one for new requests. It is replaced by a successor, which is opened beside
it and takes its place when it is connected; the old one then drains, and closes with its last request.
Where the requests in flight on it pass a limit, further ones take what is more. What the balancer
knows is the node's, so a new connection inherits it all. For both doors: they open, follow and close.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Collection
from random import Random
from typing import Any, Protocol

from trimtab.balancer import Node, Pick
from trimtab.client.channel_spec import by_name
from trimtab.client.connections import Connections

_EARLIEST = 0.8  # of the greatest age: connections that began together must not end together
_IDLE_S = 60.0  # how long a further connection is kept without a request
_AT_ONCE = 10  # one of so many connections is replaced at a time, and one at least


class Link:
    """What both doors know of one connection to an endpoint.

    Attributes:
        connected: requests can leave at once, as it was last looked at.
        failing: it could not be connected since it was last connected, or ever.
        error: gRPC's text of the last connection error, "" if there was none or it is not known.
        by_name: the endpoint's address is a host name: what befell a connection can't be told from another's.
        leaving: it gets no new request, and closes when its last one ends.
        open: what is in flight on it. A set, since its single steps are atomic for threads.
        room: how many may be in flight before another connection takes the next.
        expires: when it is to be replaced, or closed for want of work [s, monotonic].
        generation: of the credentials that it was opened with.
        successor: takes its place when connected.
        was_cut: what ``is_cut`` said before it was closed; None: it is open.
        further: take requests when it is full.
    """

    __slots__ = (
        "by_name", "connected", "error", "expires", "failing", "further", "generation", "leaving", "open",
        "room", "successor", "was_cut",
    )  # fmt: skip

    def __init__(self) -> None:
        self.connected = False
        self.by_name = False
        self.failing = False
        self.error = ""
        self.leaving = False
        self.open: set[Pick] = set()
        self.room = sys.maxsize
        self.expires = math.inf
        self.generation = 0
        self.successor: Any = None
        self.was_cut: bool | None = None
        self.further: tuple[Any, ...] = ()

    def is_cut(self) -> bool:
        """Whether its native channel says that it is not connected: now, or when it was closed."""
        raise NotImplementedError


class Renewed(Protocol):
    """Credentials that change while a channel is open."""

    @property
    def generation(self) -> int:
        """Another number whenever they have changed."""
        ...

    def poll(self) -> None:
        """Look whether they have."""
        ...


class Links:
    """The connections of one channel. All but ``roomier`` from the one thread that follows them.

    Args:
        connections: how many, and for how long.
        credentials: those that change, or None.
        clock: seconds, monotonic.
        random: draws ages.
        opened: opens a connection to an endpoint, and follows it.
        close: closes one that nothing is in flight on.
    """

    def __init__(
        self,
        connections: Connections,
        credentials: Renewed | None,
        clock: Callable[[], float],
        random: Random,
        opened: Callable[[Node], Link],
        close: Callable[[Any], None],
    ) -> None:
        self._age = connections.max_age_s
        self._room = connections.streams or sys.maxsize
        self._most = connections.most
        self._credentials = credentials
        self._clock = clock
        self._random = random
        self._opened = opened
        self._close = close
        self._lock = threading.Lock()  # for what ``roomier`` may change

    def _open(self, node: Node) -> Link:
        generation = 0 if self._credentials is None else self._credentials.generation
        link = self._opened(node)
        link.by_name = by_name(node.endpoint)
        link.generation = generation
        link.room = self._room
        if self._age is not None:
            link.expires = self._clock() + self._drawn(self._age)
        return link

    def _drawn(self, age: float) -> float:
        return age * (_EARLIEST + (1.0 - _EARLIEST) * self._random.random())

    def first(self, node: Node) -> None:
        """Open an endpoint's first connection."""
        node.transport = self._open(node)

    def looked(self, node: Node, link: Link, *, connected: bool, failed: bool) -> None:
        """A connection's state was looked at: connected, failed, or neither."""
        before = link.connected
        link.connected = connected
        current: Link = node.transport
        if link.leaving:
            return
        if link is current:
            if not connected and link.successor is not None:
                self._replace(node, link.successor)
        elif link is current.successor:
            if connected or not current.connected:
                self._replace(node, link)
        elif failed or (before and not connected):
            self._drop(current, link)
            if failed:
                current.room = sys.maxsize  # until the next beat

    def beat(self, nodes: Collection[Node]) -> None:
        """Begin to replace what is to be replaced, a few at a time; close what nobody needs.

        Call it every second.
        """
        if self._credentials is not None:
            self._credentials.poll()
        elif self._age is None and self._room == sys.maxsize:
            return
        now = self._clock()
        generation = 0 if self._credentials is None else self._credentials.generation
        due: list[tuple[Node, Link]] = []
        replacing = 0
        for node in nodes:
            link: Link | None = node.transport
            if link is None:
                continue
            link.room = self._room
            self._close_idle(link, now)
            self._drop_outdated(link, generation)
            if link.successor is not None:
                replacing += not link.successor.failing
            elif node.usable and (now >= link.expires or link.generation != generation):
                if link.connected or link.generation != generation:
                    due.append((node, link))
                elif self._age is not None:
                    # Its channel goes on trying, and what it gets will be new. Another channel would
                    # begin its pauses between tries anew.
                    link.expires = now + self._drawn(self._age)
        due.sort(key=_overdue)
        self._begin(due, max(1, len(nodes) // _AT_ONCE) - replacing)

    def _begin(self, due: list[tuple[Node, Link]], most: int) -> None:
        """Open successors; beside connections that are in use no more than ``most``."""
        for node, link in due:
            if not link.connected:
                self._replace(node, self._open(node))
            elif most > 0:
                most -= 1
                link.successor = self._open(node)

    def _drop_outdated(self, link: Link, generation: int) -> None:
        if link.successor is not None and link.successor.generation != generation:
            self._retire(link.successor)
            link.successor = None

    def _close_idle(self, link: Link, now: float) -> None:
        for further in link.further:
            if further.open:
                further.expires = now + _IDLE_S
            elif now >= further.expires:
                self._drop(link, further)

    def roomier(self, node: Node, link: Link) -> Any:
        """The connection for a request where ``link`` is full: another with room, a new one, or the emptiest.

        A request may be given to one that is being connected, and leaves with it. From any thread.
        """
        with self._lock:
            if link.leaving:
                return link
            best: Link = min((link, *link.further), key=_load)
            if len(best.open) < link.room or len(link.further) + 1 >= self._most:
                return best
            further = self._open(node)
            further.expires = self._clock() + _IDLE_S
            link.further = (*link.further, further)
            return further

    def shed(self, node: Node) -> None:
        """The endpoint gets no requests for now: keep the one connection only."""
        link: Link | None = node.transport
        if link is not None:
            with self._lock:
                others = [*link.further, *([] if link.successor is None else [link.successor])]
                link.further, link.successor = (), None
                for other in others:
                    self._retire(other)

    def leave(self, node: Node) -> None:
        """The endpoint has left."""
        self.shed(node)
        if node.transport is not None:
            self._retire(node.transport)

    def ended(self, pick: Pick) -> None:
        """A request has ended. From any thread, and more than once if need be."""
        link: Link = pick.transport
        link.open.discard(pick)
        if link.leaving and not link.open:
            self._close(link)

    def _replace(self, node: Node, new: Link) -> None:
        with self._lock:
            old: Link = node.transport
            node.transport = new
            further, old.further, old.successor = old.further, (), None
            for each in (old, *further):
                self._retire(each)

    def _drop(self, link: Link, further: Link) -> None:
        with self._lock:
            link.further = tuple(each for each in link.further if each is not further)
            self._retire(further)

    def _retire(self, link: Link) -> None:
        # In this order: a request that comes in between sees that it is leaving, and goes elsewhere.
        link.leaving = True
        if not link.open:
            self._close(link)


def _overdue(due: tuple[Node, Link]) -> tuple[int, float]:
    return due[1].generation, due[1].expires


def _load(link: Link) -> int:
    return len(link.open)
