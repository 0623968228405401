"""What a process wants from its control planes, and what it has: all decisions, no I/O.

``subscription.py`` feeds in what happens (``watch``, ``received``, ``closed``) and performs the
effects that ``poll`` returns. Times are monotonic seconds and arguments.

Servers stand in order of preference (after gRFC A71):

* The first is always tried, for ever, with back-off. While it answers, no other is connected.
* The next one is connected when every better one has failed and either something that is watched
  has no state yet, or they have been lost for ``FALLBACK_AFTER_S``. A71 stops at the former; the
  latter is ours, since endpoints are perishable.
* A better server takes over at its first verdict on any watched name; the others are then closed.

Last good state is never dropped, but for names that nobody watches: of those the ``MOST_RELEASED``
that were watched last keep it. A name that comes back after nobody watched it for longer than
``LINGER_S`` is asked first, and shown its old state only if no server answers: by then its
addresses may belong to other pods.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Generic, TypeVar

from trimtab.backoff import HEALTHY_S, Backoff
from trimtab.client import reasons
from trimtab.client.bootstrap import Bootstrap, Server
from trimtab.client.effects import Connect, Disconnect, Effect, Fail, Log, Send, TakesLoads, Update
from trimtab.client.server_health import ServerHealth
from trimtab.errors import ProtocolError
from trimtab.model import Snapshot
from trimtab.xds.client_session import Absent, ClientSession, Rejected, Resolved

LINGER_S = 30.0
FALLBACK_AFTER_S = 10.0
MOST_RELEASED = 256  # names that nobody watches, whose last good state is kept
SILENCE_S = 15.0  # the resource timer of native gRPC (A57)
KEEPALIVE_S = 10.0
POLITE_KEEPALIVE_S = 330.0  # gRPC servers forbid pings more often than every 300 s by default

W = TypeVar("W")


@dataclass(eq=False, slots=True)
class _Stream:
    number: int
    session: ClientSession
    opened: float
    heard: bool = False
    verdicts: int = 0
    takes_loads: bool = False


@dataclass(eq=False, slots=True)
class _Link:
    """One server. ``lost`` is when it was last lost or first refused, None while it is good."""

    server: Server
    backoff: Backoff
    stream: _Stream | None = None
    due: float = 0.0
    lost: float | None = None
    failures: int = 0
    error: str = ""
    keepalive_s: float = KEEPALIVE_S
    health: ServerHealth = field(default_factory=ServerHealth)


@dataclass(eq=False, slots=True)
class _Name(Generic[W]):
    """One name.

    Attributes:
        watchers: each with the last thing it was told.
        snapshot: the last good state.
        absent: why there is no such service, "" if there is one.
        current: a server has given its verdict since the name was asked.
        asked: when it was asked.
        silence_told: the watchers know that no server says anything.
        released: when the last watcher left.
    """

    watchers: dict[W, Snapshot | str | None] = field(default_factory=dict)
    snapshot: Snapshot | None = None
    absent: str = ""
    current: bool = False
    asked: float = 0.0
    silence_told: bool = False
    released: float = 0.0


class Subscriber(Generic[W]):
    """All names that a process watches at one bootstrap.

    Args:
        bootstrap: the control planes, in order.
        session: makes the protocol session of a new stream.
        random: for the back-off's jitter.
        now: monotonic seconds.

    Attributes:
        finished: nobody has watched anything for as long as a stream is kept open; it is closed.
    """

    def __init__(
        self,
        bootstrap: Bootstrap,
        session: Callable[[], ClientSession],
        random: Random,
        now: float,
    ) -> None:
        self._origin = bootstrap.origin
        self._new_session = session
        self._links = [_Link(server, Backoff(random), due=now) for server in bootstrap.servers]
        self._names: dict[str, _Name[W]] = {}
        self._released: dict[str, None] = {}  # those that nobody watches, the oldest first
        self._streams_opened = 0
        self._idle_since: float | None = now
        self.finished = False
        self._effects: list[Effect[W]] = []

    def servers(self) -> Iterator[tuple[str, ServerHealth]]:
        """The control planes' URIs, and how they do. May be read from any thread."""
        return ((link.server.uri, link.health) for link in self._links)

    def watch(self, watcher: W, name: str, now: float) -> None:
        """Somebody wants ``name``, and is told at once what is known of it."""
        entry = self._names.setdefault(name, _Name())
        if not entry.watchers:
            self._released.pop(name, None)
            entry.asked = now
            entry.silence_told = False
            if now - entry.released > LINGER_S:
                entry.current = False
            for _, stream in self._live():
                stream.session.watch(name)
        entry.watchers[watcher] = None
        self._idle_since = None
        self.finished = False
        if entry.current:
            self._tell(entry, watcher, entry.absent or entry.snapshot)
        elif reason := self._outage(name, now):
            self._console(entry, watcher, reason)

    def unwatch(self, watcher: W, name: str, now: float) -> None:
        """Somebody no longer wants ``name``."""
        entry = self._names.get(name)
        if entry is None or watcher not in entry.watchers:
            return
        del entry.watchers[watcher]
        if entry.watchers:
            return
        entry.released = now
        self._release(name, entry)
        for _, stream in self._live():
            stream.session.unwatch(name)
        if not any(self._watched()):
            self._idle_since = now

    def _release(self, name: str, entry: _Name[W]) -> None:
        """Nobody watches it now: keep its last good state, and of all such names those of the latest."""
        if entry.snapshot is None:
            del self._names[name]
            return
        self._released[name] = None
        if len(self._released) > MOST_RELEASED:
            oldest = next(iter(self._released))
            del self._released[oldest], self._names[oldest]

    def received(self, number: int, response: bytes, now: float) -> None:
        """A stream brought a response. What breaks the protocol costs that stream, no more."""
        link, stream = self._find(number)
        if link is None or stream is None:
            return
        stream.heard = True
        link.health.answered()
        try:
            events = stream.session.receive(response)
        except Exception as error:  # noqa: BLE001 - no answer may end the thread of all channels
            rule = "" if isinstance(error, ProtocolError) else f"{type(error).__name__}: "
            self._effects.append(Disconnect(number))
            self._lose(link, f"it broke the protocol: {rule}{error}", now)
            return
        for event in events:
            if isinstance(event, Rejected):
                self._reject(link, event)
                continue
            stream.verdicts += 1
            self._recover(link)
            if isinstance(event, Resolved) and event.snapshot.service and not stream.takes_loads:
                # Only trimtab's own control plane names the Service.
                stream.takes_loads = True
                self._effects.append(TakesLoads(number))
            self._take(link, event)

    def closed(self, number: int, error: str, now: float) -> None:
        """A stream has ended, or could not be opened. ``error`` is gRPC's text."""
        link, _ = self._find(number)
        if link is not None:
            self._lose(link, error, now)

    def poll(self, now: float) -> list[Effect[W]]:
        """Act on the time, and return all that has to be done since the last call, in order."""
        if self._idle_since is not None and now >= self._idle_since + LINGER_S:
            self.finished = True
            for link, stream in self._live():
                self._effects.append(Disconnect(stream.number))
                link.stream = None
            for link in self._links:
                link.lost = None
                link.failures = 0
                link.health.left()
        for index, link in enumerate(self._links):
            opens = self._opens_at(index)
            if opens is not None and opens <= now:
                self._open(link, now)
        for link, stream in self._live():
            self._break_silence(link, stream, now)
            for request in stream.session.take_requests():
                self._effects.append(Send(stream.number, request))
        effects, self._effects = self._effects, []
        return effects

    def wakes_at(self) -> float | None:
        """When ``poll`` has something to do if nothing happens before; None for never."""
        times = [self._opens_at(index) for index in range(len(self._links))]
        if self._idle_since is not None and not self.finished:
            times.append(self._idle_since + LINGER_S)
        times.extend(
            max(entry.asked, stream.opened) + SILENCE_S
            for _, stream in self._live()
            for _, entry in self._unanswered()
            if not entry.silence_told
        )
        return min((time for time in times if time is not None), default=None)

    # servers

    def _live(self) -> Iterator[tuple[_Link, _Stream]]:
        for link in self._links:
            if link.stream is not None:
                yield link, link.stream

    def _find(self, number: int) -> tuple[_Link, _Stream] | tuple[None, None]:
        for link, stream in self._live():
            if stream.number == number:
                return link, stream
        return None, None

    def _opens_at(self, index: int) -> float | None:
        """When a server may be connected to; None while the rules above forbid it."""
        link = self._links[index]
        if link.stream is not None or self._idle_since is not None:
            return None
        lost = [better.lost for better in self._links[:index] if better.lost is not None]
        if len(lost) < index:
            return None
        refused = all(better.failures for better in self._links[:index])
        if index == 0 or (refused and any(self._unanswered())):
            return link.due
        return max(link.due, max(lost) + FALLBACK_AFTER_S)

    def _open(self, link: _Link, now: float) -> None:
        self._streams_opened += 1
        session = self._new_session()
        session.received = link.health.received
        link.health.opened()
        for name, _ in self._watched():
            session.watch(name)
        session.connected()
        link.stream = _Stream(self._streams_opened, session, now)
        self._effects.append(Connect(self._streams_opened, link.server, link.keepalive_s))

    def _lose(self, link: _Link, error: str, now: float) -> None:
        stream, link.stream = link.stream, None
        link.error = error
        link.health.ended(heard=stream is not None and stream.heard)
        if stream is not None and stream.verdicts:
            # A stream that gave answers and ended is no failure yet (A57): the next attempt tells.
            if now - stream.opened >= HEALTHY_S:
                link.backoff.reset()
        else:
            link.failures += 1
        if link.lost is None:
            link.lost = now
            text = f"control plane {link.server.uri}: {error}; what is known stays in use"
            self._effects.append(Log(logging.WARNING, text))
        if "too many pings" in error.lower().replace("_", " "):
            link.keepalive_s = POLITE_KEEPALIVE_S
        link.due = now + link.backoff.next()
        for name, entry in self._unanswered():
            if reason := self._outage(name, now):
                for watcher in entry.watchers:
                    self._console(entry, watcher, reason)

    def _recover(self, link: _Link) -> None:
        """A server gave a verdict: it is good again, and those after it aren't needed."""
        if link.lost is not None:
            text = f"control plane {link.server.uri} answers again"
            self._effects.append(Log(logging.INFO, text))
        link.lost = None
        link.failures = 0
        for worse in self._links[self._links.index(link) + 1 :]:
            if worse.stream is not None:
                self._effects.append(Disconnect(worse.stream.number))
                worse.stream = None
            worse.lost = None
            worse.failures = 0
            worse.health.left()

    def _outage(self, name: str, now: float) -> str:
        """Why no server can be asked about ``name``; "" while one of them may yet answer."""
        lost = [
            reasons.Failure(
                link.server.uri,
                now - link.lost,
                link.error,
                plaintext=link.server.credentials.kind == "insecure",
            )
            for link in self._links
            if link.lost is not None and link.failures
        ]
        return (
            reasons.unreachable(name, lost, self._origin) if len(lost) == len(self._links) else ""
        )

    # names

    def _watched(self) -> Iterator[tuple[str, _Name[W]]]:
        return ((name, entry) for name, entry in self._names.items() if entry.watchers)

    def _unanswered(self) -> Iterator[tuple[str, _Name[W]]]:
        return ((name, entry) for name, entry in self._watched() if not entry.current)

    def _take(self, link: _Link, event: Resolved | Absent) -> None:
        entry = self._names.get(event.name)
        if entry is None:
            return
        entry.current = True
        if isinstance(event, Absent):
            entry.absent = reasons.absent(event.name, link.server.uri, event.reason)
        else:
            entry.absent = ""
            if entry.snapshot != event.snapshot:
                entry.snapshot = event.snapshot
        for watcher in entry.watchers:
            self._tell(entry, watcher, entry.absent or entry.snapshot)

    def _reject(self, link: _Link, event: Rejected) -> None:
        uri = link.server.uri
        text = f"rejected {event.type_url} {event.name} of control plane {uri}: {event.reason}"
        self._effects.append(Log(logging.WARNING, text))
        for name in event.watches:
            entry = self._names[name]
            if not entry.current:
                for watcher in entry.watchers:
                    self._console(entry, watcher, reasons.rejected(name, uri, event.reason))

    def _break_silence(self, link: _Link, stream: _Stream, now: float) -> None:
        for name, entry in self._unanswered():
            since = max(entry.asked, stream.opened)
            if now >= since + SILENCE_S and not entry.silence_told:
                entry.silence_told = True
                waited = now - since
                missing = stream.session.waiting_for(name)
                for watcher in entry.watchers:
                    self._console(
                        entry, watcher, reasons.silent(name, link.server.uri, waited, missing)
                    )

    def _console(self, entry: _Name[W], watcher: W, reason: str) -> None:
        """No server answers: old state is better than none, and a reason better than silence."""
        if entry.snapshot is not None and not entry.absent:
            self._tell(entry, watcher, entry.snapshot)
        else:
            self._tell(entry, watcher, reason)

    def _tell(self, entry: _Name[W], watcher: W, news: Snapshot | str | None) -> None:
        told = entry.watchers[watcher]
        if news is None or news is told:
            return
        entry.watchers[watcher] = news
        if isinstance(news, Snapshot):
            self._effects.append(Update(watcher, news))
        elif news != told:
            self._effects.append(Fail(watcher, news))
