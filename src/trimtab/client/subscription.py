"""The subscriptions of this process: one thread and one stream per bootstrap, for all channels.

The thread owns a ``Subscriber`` and does what it says; everybody else, the stream's reader
included, only puts messages into its inbox. So watchers are called from that one thread, in order
and never under a lock, and a channel may be closed by the garbage collector in the middle of
anything. Watchers must not block: they share the thread.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable
from importlib import metadata
from queue import Empty, SimpleQueue
from random import Random
from typing import TYPE_CHECKING

from trimtab.client import xds_metrics
from trimtab.client.ads_stream import AdsStream
from trimtab.client.bootstrap import Bootstrap
from trimtab.client.bytes_stream import BytesStream
from trimtab.client.effects import Connect, Disconnect, Fail, Log, Send, TakesLoads, Update
from trimtab.client.load_reporter import Source
from trimtab.client.load_reporting import LoadReporting
from trimtab.client.subscriber import Subscriber
from trimtab.errors import ConfigError
from trimtab.xds.client_session import ClientSession, NodeInfo

if TYPE_CHECKING:
    from trimtab.client.watching import Watcher

_log = logging.getLogger("trimtab.client")
_log.addHandler(logging.NullHandler())

_EXIT_S = 1.0  # how long the end of the interpreter waits for a subscription to close its stream
_BUG_PAUSE_S = 1.0


def subscribe(name: str, watcher: Watcher, bootstrap: Bootstrap) -> Subscribed:
    """Follow ``name`` at the control plane.

    Returns at once, whether the control plane can be reached or not. ``watcher`` is called from
    the subscription's thread: ``updated`` with what is known already and with every change,
    ``failed`` with a text for users while there is nothing to give. The subscription keeps the
    watcher alive until the result is closed.

    Args:
        name: what follows ``xds:///`` in a target.
        watcher: must not block.
        bootstrap: equal ones share a subscription.

    Raises:
        ConfigError: ``name`` is empty, or of the ``xdstp:`` scheme.
    """
    if not name or name.startswith("xdstp:") or "\n" in name:
        raise ConfigError(
            f"target name {name!r} can't be asked of a control plane; "
            "use SERVICE.NAMESPACE:PORT, such as xds:///orders.shop:grpc"
        )
    return _registry.subscribe(name, watcher, bootstrap)


def report(source: Source, bootstrap: Bootstrap) -> Reporting:
    """Have the load of a channel reported to the control plane, if that takes reports.

    Args:
        source: counts what the channel does.
        bootstrap: the one that its endpoints come from.
    """
    return _registry.report(source, bootstrap)


class Reporting:
    """A channel's load being reported."""

    __slots__ = ("_source", "_subscription")

    def __init__(self, subscription: Subscription, source: Source) -> None:
        self._subscription = subscription
        self._source = source

    def close(self) -> None:
        """Report no more than what has happened. Idempotent, from any thread."""
        self._subscription.loads.tell(lambda loads: loads.remove(self._source))


class Subscribed:
    """One watcher's claim on a name."""

    __slots__ = ("_subscription", "closed", "name", "watcher")

    def __init__(self, subscription: Subscription, name: str, watcher: Watcher) -> None:
        self._subscription = subscription
        self.name = name
        self.watcher = watcher
        self.closed = False

    @property
    def origin(self) -> str:
        """The control planes, in order of preference."""
        return self._subscription.origin

    def close(self) -> None:
        """Hear no more. Idempotent, from any thread; a call that is under way may still finish."""
        if not self.closed:
            self.closed = True
            self._subscription.post(
                lambda subscriber, now: subscriber.unwatch(self, self.name, now)
            )

    def __repr__(self) -> str:
        return f"<Subscribed {self.name}{' (closed)' if self.closed else ''}>"


Message = Callable[["Subscriber[Subscribed]", float], None]


class Subscription:
    """The thread of one bootstrap.

    Args:
        bootstrap: whom to ask, and as whom.
        lock: guards starting and stopping of the thread.
        clock: monotonic seconds.

    Attributes:
        origin: see ``Watch``.
        loads: the reports of this process's load; of its thread only.

    Raises:
        ConfigError: the node's metadata is not JSON.
    """

    def __init__(
        self, bootstrap: Bootstrap, lock: threading.Lock, clock: Callable[[], float]
    ) -> None:
        node = bootstrap.node
        self.origin = "control plane " + ", ".join(server.uri for server in bootstrap.servers)
        identity = NodeInfo(
            id=node.id,
            cluster=node.cluster,
            locality=node.locality,
            metadata=node.metadata,
            user_agent_version=metadata.version("trimtab"),
        )
        ClientSession(node=identity)  # refuses metadata that isn't JSON here, to the caller's face
        self._lock = lock
        self._clock = clock
        self._inbox: SimpleQueue[Message] = SimpleQueue()
        self._subscriber: Subscriber[Subscribed] = Subscriber(
            bootstrap, lambda: ClientSession(node=identity), Random(), clock()
        )
        xds_metrics.add(self._subscriber)
        self.loads = LoadReporting(identity, clock, self._tell)
        self._streams: dict[int, AdsStream] = {}
        self._thread: threading.Thread | None = None
        self._pause = threading.Event()
        self._stopping = False

    def post(self, message: Message) -> None:
        """Have the thread apply ``message``. Never blocks; safe in finalisers."""
        self._inbox.put(message)

    def _tell(self, act: Callable[[], None]) -> None:
        self.post(lambda _subscriber, _now: act())

    def start(self) -> None:
        """Start the thread unless it runs. The caller holds the lock, and has posted."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="trimtab-xds", daemon=True)
            thread.start()  # may raise: the next one to follow anything tries again
            self._thread = thread

    @property
    def running(self) -> bool:
        """Whether the thread is there."""
        return self._thread is not None

    def stop(self) -> None:
        """End the stream and the thread, for the end of the process; waits a moment for both."""
        thread = self._thread
        if thread is not None:
            self._stopping = True
            self.post(lambda _subscriber, _now: None)
            thread.join(_EXIT_S)

    def _run(self) -> None:
        while not self._ended():
            try:
                self._hear()
                for effect in self._subscriber.poll(self._clock()):
                    self._do(effect)
                self.loads.poll()
            except Exception:  # noqa: BLE001 - a bug must not leave channels stale for ever
                _log.exception("the subscription failed and goes on")
                self._pause.wait(_BUG_PAUSE_S)
        streams: list[BytesStream] = [*self.loads.streams, *self._streams.values()]
        for stream in streams:
            stream.close()
        for stream in streams:
            stream.join(_EXIT_S)

    def _ended(self) -> bool:
        if self._stopping:
            return True
        if self._streams or not self._subscriber.finished:
            return False
        with self._lock:  # nobody posts a new watch meanwhile
            if self._inbox.empty():
                self._thread = None
                return True
        return False

    def _hear(self) -> None:
        """Wait for a message until the subscriber wants to act, then take all that are there."""
        times = [t for t in (self._subscriber.wakes_at(), self.loads.wakes_at()) if t is not None]
        timeout = max(0.0, min(times) - self._clock()) if times else None
        try:
            message = self._inbox.get(timeout=timeout)
            while True:
                message(self._subscriber, self._clock())
                message = self._inbox.get_nowait()
        except Empty:
            return

    def _do(self, effect: object) -> None:
        match effect:
            case Update(watcher, snapshot) if not watcher.closed:
                _call(watcher, lambda: watcher.watcher.updated(snapshot))
            case Fail(watcher, reason) if not watcher.closed:
                _call(watcher, lambda: watcher.watcher.failed(reason))
            case Send(number, request):
                if number in self._streams:
                    self._streams[number].send(request)
            case Connect():
                self._connect(effect)
            case Disconnect(number):
                stream = self._streams.pop(number, None)
                self.loads.lost(number)
                if stream is not None:
                    stream.close()
            case TakesLoads(number) if number in self._streams:
                self.loads.begin(number, self._streams[number].channel)
            case Log(level, text):
                _log.log(level, text)

    def _connect(self, effect: Connect) -> None:
        number = effect.stream

        def received(response: bytes) -> None:
            self.post(lambda subscriber, now: subscriber.received(number, response, now))

        def closed(error: str) -> None:
            self.post(lambda subscriber, now: self._forget(subscriber, number, error, now))

        try:
            self._streams[number] = AdsStream(effect.server, effect.keepalive_s, received, closed)
        except Exception as error:  # noqa: BLE001 - a certificate file, an address gRPC refuses, no thread to be had
            closed(str(error))

    def _forget(
        self, subscriber: Subscriber[Subscribed], number: int, error: str, now: float
    ) -> None:
        self._streams.pop(number, None)
        self.loads.lost(number)
        subscriber.closed(number, error, now)


def _call(watcher: Subscribed, tell: Callable[[], None]) -> None:
    try:
        tell()
    except Exception:  # noqa: BLE001 - one watcher's bug must not cost the others their endpoints
        _log.exception("a watcher of %s raised; it will hear the next change", watcher.name)


class _Registry:
    """The subscriptions of this process, by bootstrap.

    They are kept when their thread has ended, and the last good state with them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: dict[Bootstrap, Subscription] = {}

    def subscribe(self, name: str, watcher: Watcher, bootstrap: Bootstrap) -> Subscribed:
        with self._lock:
            subscription = self._of(bootstrap)
            subscribed = Subscribed(subscription, name, watcher)
            subscription.post(lambda subscriber, now: subscriber.watch(subscribed, name, now))
            try:
                subscription.start()
            except RuntimeError:  # the process has as many threads as it may
                subscribed.close()
                raise
            return subscribed

    def report(self, source: Source, bootstrap: Bootstrap) -> Reporting:
        with self._lock:
            subscription = self._of(bootstrap)
        subscription.loads.tell(lambda loads: loads.add(source))
        return Reporting(subscription, source)

    def _of(self, bootstrap: Bootstrap) -> Subscription:
        """The subscription of a bootstrap; the caller holds the lock."""
        found = self._subscriptions.get(bootstrap)
        if found is None:
            found = Subscription(bootstrap, self._lock, time.monotonic)  # noqa: TID251 - the door's clock
            self._subscriptions[bootstrap] = found
        return found

    def stop(self) -> None:
        for subscription in list(self._subscriptions.values()):
            subscription.stop()


_registry = _Registry()
_inherited: list[_Registry] = []


def _begin_anew() -> None:
    """In a forked child: neither threads nor locks of the parent can be used.

    The parent's objects are kept, so that no finaliser touches gRPC state which belongs to it.
    """
    global _registry  # noqa: PLW0603 - fork replaces the state of the process
    _inherited.append(_registry)
    xds_metrics.forget()
    _registry = _Registry()


os.register_at_fork(after_in_child=_begin_anew)
atexit.register(lambda: _registry.stop())  # noqa: PLW0108 - the one of that moment, after a fork too
