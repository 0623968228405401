"""The connections to one cluster's endpoints for threads, and who waits for them.

One native channel per endpoint and one daemon thread per channel. Native sync channels tell their
state by a thread each (``subscribe``) or when asked, which takes a third of a microsecond. So each
pick asks the endpoint that it chose, and the thread asks the others: often while some are being
connected, else once a second. Snapshots, connections and closings happen on that thread only; the
balancer's lock is held for single decisions.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Collection
from functools import partial
from random import Random
from typing import Any

import grpc

from trimtab.balancer import BEAT_S, Balancer, Node, Pick
from trimtab.client import observing
from trimtab.client.alarms import Alarms
from trimtab.client.attempts import trail
from trimtab.client.availability import Availability
from trimtab.client.channel_spec import ChannelSpec, Options, target_of
from trimtab.client.connectivity_callbacks import ConnectivityCallbacks
from trimtab.client.deferred_call import DeferredCall
from trimtab.client.ended_call import EndedCall
from trimtab.client.forking import FORKED, watch_forks
from trimtab.client.links import Link, Links
from trimtab.client.liveness import SyncQuestions
from trimtab.client.native_channels import blocking_channel
from trimtab.client.policy_errors import PolicyErrors
from trimtab.client.sync_probes import SyncProbes
from trimtab.client.wakeup import Waiters, Wakeup
from trimtab.client.watching import Closable, Fixed, Watch
from trimtab.errors import NoEndpoints
from trimtab.load_report import LoadReport
from trimtab.model import Snapshot
from trimtab.policies import Outcome
from trimtab.policies.selection import Labels

_log = logging.getLogger("trimtab.client")

READY: int = grpc.ChannelConnectivity.READY.value[0]
_FAILED: int = grpc.ChannelConnectivity.TRANSIENT_FAILURE.value[0]
CLOSED = "Cannot invoke RPC on closed channel!"
_CLOSED_IN_FLIGHT = "Channel closed!"

_PICKS = range(
    8
)  # a pick may meet an endpoint whose connection has just gone; how often to pick anew
_FIRST_LOOK_S = 0.001  # after a change: connections on a good network take about this long
_LAST_LOOK_S = 0.05
_SETTLED_LOOK_S = BEAT_S

# What a channel in TRANSIENT_FAILURE answers to any call at once names the connection error, which
# gRPC gives nowhere else. If it connects at that very moment, the server sees a health check.
_PROBE = "/grpc.health.v1.Health/Check"
_PROBE_S = 1.0

AskState = Callable[[bool], int]


def ask_by_call(channel: grpc.Channel) -> AskState:
    """The native channel's own question for its state, which is private."""
    ask: AskState = channel._channel.check_connectivity_state  # type: ignore[attr-defined]  # noqa: SLF001 - the hook
    return ask


def ask_by_subscription(channel: grpc.Channel) -> AskState:
    """The public way, at the price of a thread per endpoint."""
    seen = [grpc.ChannelConnectivity.IDLE.value[0]]

    def note(state: grpc.ChannelConnectivity) -> None:
        seen[0] = state.value[0]

    def ask(try_to_connect: bool) -> int:
        if try_to_connect and seen[0] == grpc.ChannelConnectivity.IDLE.value[0]:
            channel.unsubscribe(note)
            channel.subscribe(note, try_to_connect=True)
        return seen[0]

    channel.subscribe(note, try_to_connect=True)
    return ask


def ask_both(channel: AskState, health: AskState) -> AskState:
    """Of two channels: that of health where the other is READY."""

    def ask(try_to_connect: bool) -> int:
        state, healthy = channel(try_to_connect), health(try_to_connect)
        return healthy if state == READY else state

    return ask


class SyncLink(Link):
    """One endpoint's native channel.

    Attributes:
        channel: the native channel.
        health: the one that watches the endpoint's health, or None; see ``client.health``.
        ask: its state, READY only if it is connected and healthy; True makes it connect.
        ask_channel: the same, of the native channel alone.
        closed: it has been closed.
        wanted: whether it is to be connected.
    """

    __slots__ = ("_making", "ask", "ask_channel", "channel", "closed", "health", "wanted")

    def __init__(
        self,
        channel: grpc.Channel,
        ask: Callable[[grpc.Channel], AskState],
        health: grpc.Channel | None,
    ) -> None:
        super().__init__()
        self.channel = channel
        self.health = health
        self.ask = self.ask_channel = ask(channel)
        if health is not None:
            self.ask = ask_both(self.ask_channel, ask(health))
        self.closed = False
        self.wanted = True
        self._making: list[None] = []  # one for each who makes something of the channel now

    def made(self, make: Callable[[grpc.Channel], Any]) -> Any:
        """What ``make`` makes of the channel, which is not closed meanwhile: gRPC's core would crash at that.

        Raises:
            ValueError: it is closed.
        """
        self._making.append(None)  # first: who closes it looks for that last
        try:
            if self.closed:
                raise ValueError(CLOSED)
            return make(self.channel)
        finally:
            self._making.pop()
            if self.closed:
                self._close()

    def close(self) -> None:
        """Close it, or have it closed by who makes something of it. Idempotent, from anywhere."""
        if self.was_cut is None:
            self.was_cut = self.is_cut()  # first: a closed channel can't be asked
        self.closed = True
        self._close()

    def _close(self) -> None:
        if not self._making:
            self.channel.close()
            if self.health is not None:
                self.health.close()

    def is_cut(self) -> bool:
        """See ``Link``; one that is unhealthy may well be connected."""
        if self.was_cut is not None:
            return self.was_cut
        try:
            return self.ask_channel(False) != READY
        except ValueError:  # it was closed just now
            return bool(self.was_cut)


class SyncCluster:
    """A cluster's endpoints as one channel sees them.

    Args:
        spec: what the caller asked for.
        ask: how a native channel is asked for its state.

    Raises:
        ConfigError: the policy is unknown or has a bad parameter.
    """

    def __init__(self, spec: ChannelSpec, ask: Callable[[grpc.Channel], AskState]) -> None:
        self.clock = time.monotonic  # noqa: TID251 - the door gives the core its clock
        # Reentrant: a finaliser that ends a call may run in the middle of a decision.
        lock = threading.RLock()
        self._policy_errors = PolicyErrors(spec.service)
        self.balancer = Balancer(
            spec.service,
            clock=self.clock,
            random=Random(),
            wall=time.time,  # noqa: TID251 - as above
            zone=spec.zone,
            labels=spec.labels,
            policy=spec.policy,
            stalled=self._stalled,
            raised=self._policy_errors,
            lock=lock,
        )
        self.attempts = spec.attempts(Random(), self.balancer)
        self.alarms = Alarms(self.clock)
        self.observer = observing.installed()
        self.availability = Availability(spec.service, self.balancer, self.clock, spec.complaint)
        self._questions = SyncQuestions()
        self._silent: deque[Node] = deque()
        self.probes = SyncProbes(self.balancer, self.clock)
        self.callbacks = ConnectivityCallbacks(self.availability.connectivity)
        self._spec = spec
        self.key_function = spec.hash_key
        self._ask = ask
        self._links: dict[SyncLink, Node] = {}
        self._opened: deque[tuple[SyncLink, Node]] = deque()
        self._each = Links(
            spec.connections, spec.renewed, self.clock, Random(), self._open, self._drained
        )
        self._unused: deque[SyncLink] = deque()
        self._news: deque[Snapshot | str] = deque()
        self._unfinished: Snapshot | None = None  # was not taken to its end
        self._deferred: weakref.WeakSet[DeferredCall] = weakref.WeakSet()
        self._kept: set[DeferredCall] = set()
        self._deferring = threading.RLock()  # a signal handler may close the channel in between
        self._wake = Wakeup()
        self._changed = Waiters()
        self._round = 0
        self._abandoned = False
        self._closed_text = CLOSED
        self._watch: Watch = Fixed()
        self._reporting: Closable = Fixed()

    def start(self) -> None:
        """Begin to follow the endpoints.

        Raises:
            ConfigError: a wrong endpoint or bootstrap.
        """
        self._watch = self._spec.watch(self)
        self._reporting = self._spec.report(self.balancer)
        self.availability.origin = self._watch.origin
        threading.Thread(target=self._run, name="trimtab-channel", daemon=True).start()
        watch_forks(self)

    # What the watch calls, from any thread.

    def updated(self, snapshot: Snapshot) -> None:
        """See ``Watcher``."""
        self._news.append(snapshot)
        self._wake.ring()

    def failed(self, reason: str) -> None:
        """See ``Watcher``."""
        self._news.append(reason)
        self._wake.ring()

    # What calls need, from any thread.

    @property
    def links(self) -> Collection[SyncLink]:
        """The open links."""
        return self._links

    def try_place(self, key: str | None = None, labels: Labels | None = None) -> Pick | None:
        """Pick an endpoint that a request can leave for now; None if there is none.

        Args:
            key: see ``Balancer.pick``.
            labels: likewise.

        Raises:
            ValueError: the channel is closed.
        """
        if self.availability.closed:
            raise ValueError(self._closed_text)
        visit = trail.get()
        balancer = self.balancer
        for _ in _PICKS:
            try:
                pick = (
                    balancer.pick(key, labels)
                    if visit is None
                    else balancer.pick_apart(visit.been, key, labels)
                )
            except NoEndpoints:
                return None
            if self._leaves(pick):
                if balancer.probing:
                    self.probes.send()
                if visit is not None:
                    visit.at(pick)
                return pick
            balancer.withdraw(pick)
            link: SyncLink | None = pick.transport
            if link is not None:
                if link.leaving:  # it was replaced meanwhile
                    continue
                link.connected = False
            if not pick.node.connected:  # then no other one is
                return None
            balancer.set_connected(pick.node, connected=False)
            self._wake.ring()
        return None

    def _leaves(self, pick: Pick) -> bool:
        """Count the request on a connection that it can leave over now; False if there is none."""
        link: SyncLink | None = pick.transport
        try:
            if link is None or link.ask(False) != READY:
                return False
            if len(link.open) >= link.room:
                other: SyncLink = self._each.roomier(pick.node, link)
                if not other.connected or other.ask(False) == READY:
                    pick.transport = link = other
        except ValueError:  # one was closed: with the channel, or since it had been replaced
            if self.availability.closed:
                self.balancer.withdraw(pick)
                raise ValueError(self._closed_text) from None
            return False
        link.open.add(pick)
        if link.leaving:  # it may be closed by now
            self._each.ended(pick)
            return False
        return True

    def place(
        self,
        timeout: float | None,
        wait_for_ready: bool | None,
        key: str | None = None,
        labels: Labels | None = None,
    ) -> tuple[Pick, float | None]:
        """Pick an endpoint when ``try_place`` found none: wait for one.

        Returns:
            The pick, and what is left of ``timeout`` [s].

        Raises:
            EndedCall: UNAVAILABLE, DEADLINE_EXCEEDED or, if the channel was closed meanwhile,
                CANCELLED, with the reason.
        """
        deadline = None if timeout is None else self.clock() + timeout
        while True:
            seen = self._round
            pick = self._try_after_waiting(key, labels)
            left = None if deadline is None else deadline - self.clock()
            if pick is not None:
                return pick, None if left is None else max(0.0, left)
            if self.availability.fails(wait_for_ready, labels):
                raise self.unavailable(labels)
            if left is not None and left <= 0.0:
                raise self._too_late(labels)
            self._changed.wait_for(partial(self._later_than, seen), partial(self._left, deadline))

    def _later_than(self, seen: int) -> bool:
        return self._round != seen

    def _left(self, deadline: float | None) -> float | None:
        return None if deadline is None else deadline - self.clock()

    def _try_after_waiting(self, key: str | None, labels: Labels | None) -> Pick | None:
        try:
            return self.try_place(key, labels)
        except ValueError:
            raise _closed() from None

    def ended(self, pick: Pick, outcome: Outcome, report: LoadReport | None = None) -> None:
        """A request has ended; called at least once for each pick."""
        pick.finish(outcome, report)
        self._each.ended(pick)

    def _drained(self, link: SyncLink) -> None:
        # Closed by the thread and not where the last request ended: that may be one of gRPC's own.
        self._unused.append(link)
        self._wake.ring()

    def defer(
        self,
        begin: Callable[[float | None], Any],
        timeout: float | None,
        wait_for_ready: bool | None,
        labels: Labels | None = None,
    ) -> DeferredCall:
        """A call that leaves when an endpoint appears."""
        deadline = None if timeout is None else self.clock() + timeout
        call = DeferredCall(begin, deadline, wait_for_ready, self.clock, self._keep, labels)
        with self._deferring:
            self._deferred.add(call)
        self._wake.ring()
        if self.availability.closed:  # since the last look: there may be no other one
            call.settle(_closed())
        return call

    def _keep(self, call: DeferredCall) -> None:
        with self._deferring:
            if call in self._deferred:  # else it was settled just now
                self._kept.add(call)

    def unavailable(self, labels: Labels | None = None) -> EndedCall:
        """A call that failed for want of an endpoint."""
        return EndedCall(grpc.StatusCode.UNAVAILABLE, self.availability.explain(labels))

    def _too_late(self, labels: Labels | None) -> EndedCall:
        return EndedCall(
            grpc.StatusCode.DEADLINE_EXCEEDED,
            f"Deadline Exceeded while waiting: {self.availability.explain(labels)}",
        )

    def _stalled(self, node: Node) -> None:
        self._silent.append(node)
        self._wake.ring()

    # The thread.

    def _run(self) -> None:
        pause = _FIRST_LOOK_S
        everything_at = 0.0
        beat_at = 0.0
        woken = True
        while not self._ended():
            self.balancer.beat()
            now = self.clock()
            everything = woken or now >= everything_at
            if everything:
                everything_at = now + _SETTLED_LOOK_S
            try:
                if now >= beat_at:
                    beat_at = now + BEAT_S
                    self._each.beat(self.balancer.nodes.values())
                changed = self._take_news(again=everything) | self._look(everything=everything)
                self._question_silent()
                self._close_unused()
                if changed or woken:
                    pause = _FIRST_LOOK_S
                    self._publish()
                self._settle_deferred()
            except Exception as error:  # noqa: BLE001 - a bug must not leave the channel stale for ever
                if self._ended():  # in the middle of the round
                    break
                _log.exception("following the endpoints of %s failed; goes on", self._spec.target)
                pause = _LAST_LOOK_S
                self.availability.trouble = repr(error)
                self._publish()
                self._settle_deferred()
            woken = self._wake.wait(self._pause(pause, everything_at))
            pause = min(2 * pause, _LAST_LOOK_S)
        if not self._abandoned:  # else what is in flight holds its own connection
            self._close_all()

    def _ended(self) -> bool:
        return self.availability.closed

    def _pause(self, pause: float, everything_at: float) -> float:
        now = self.clock()
        until = everything_at
        if any(link.wanted and not link.connected for link in self._links if not link.leaving):
            until = min(until, now + pause)
        with self._deferring:
            deadlines = [call.deadline for call in self._deferred if call.deadline is not None]
        return max(0.0, min([until, *deadlines]) - now)

    def _take_news(self, *, again: bool) -> bool:
        """Apply what the watch has said; whether there was anything.

        Args:
            again: try what failed before once more.
        """
        changed = False
        if again and self._unfinished is not None and not self._news:
            self._news.append(self._unfinished)
        while self._news:
            news = self._news.popleft()
            changed = True
            if isinstance(news, str):
                self.availability.failure = news
            elif not any(isinstance(later, Snapshot) for later in self._news):
                self._unfinished = news
                self._update(news)
                self._unfinished = None
        if self.availability.trouble and self._unfinished is None:
            self.availability.trouble = ""
            changed = True
        return changed

    def _update(self, snapshot: Snapshot) -> None:
        change = self.balancer.update(snapshot)
        self._policy_errors.refused(self.balancer.policy_error)
        self.attempts.follow(snapshot.service)
        self.availability.updated()
        for node in change.removed:
            self._each.leave(node)
        for node in self.balancer.nodes.values():
            link: SyncLink | None = node.transport
            if link is None:
                if node.usable:
                    self._each.first(node)
            elif link.wanted is not node.usable:
                self._each.shed(node)
                link.wanted = node.usable

    def _open(self, node: Node) -> SyncLink:
        where = target_of(node.endpoint)
        options, watching = self._spec.endpoint_options()
        channel = self._native(where, options)
        health = None if watching is None else self._native(where, watching)
        link = SyncLink(channel, self._ask, health)
        self._opened.append((link, node))  # the dictionary is the thread's
        self._wake.ring()
        if self.availability.closed:
            _close(link)
        return link

    def _native(self, where: str, options: Options) -> grpc.Channel:
        spec = self._spec
        return blocking_channel(where, spec.credentials, options, spec.compression)

    def _look(self, *, everything: bool) -> bool:
        """Ask the endpoints that are being connected, or all; whether one's state changed."""
        changed = False
        while self._opened:
            link, node = self._opened.popleft()
            self._links[link] = node
        for link, node in self._links.items():
            if link.leaving or (link.connected and not everything):
                continue
            state = link.ask(link.wanted)
            connected = state == READY
            if connected:
                link.failing = False
                link.error = ""
            elif state == _FAILED and not link.failing:
                link.error = _connection_error(link.health or link.channel)
                link.failing = True
                changed = True
            self._each.looked(node, link, connected=connected, failed=state == _FAILED)
            if node.connected is not node.transport.connected:
                self.balancer.set_connected(node, node.transport.connected)
                changed = True
        return changed

    def _question_silent(self) -> None:
        while self._silent:
            node = self._silent.popleft()
            link: SyncLink | None = node.transport
            if link is not None and not link.leaving and self.balancer.is_silent(node):
                # One that doesn't answer is asked again when the thread wakes next, within a second.
                self._questions.ask(
                    link.channel,
                    alive=partial(self.balancer.alive, node),
                    again=partial(self._silent.append, node),
                )

    def _close_unused(self) -> None:
        while self._unused:
            link = self._unused.popleft()
            if not link.open:  # nobody counts himself on it for a moment
                self._links.pop(link, None)
                _close(link)

    def _publish(self) -> None:
        self.availability.refresh()
        self.callbacks.publish(self.availability.connectivity)
        self._round += 1
        self._changed.tell()

    def _settle_deferred(self) -> None:
        with self._deferring:
            calls = list(self._deferred)
        for call in calls:
            if call.waiting:
                self._settle(call)
            if not call.waiting:
                with self._deferring:
                    self._deferred.discard(call)
                    self._kept.discard(call)

    def _settle(self, call: DeferredCall) -> None:
        if self.availability.closed:
            call.settle(_closed(), elsewhere=True)
        elif self.availability.ready(call.labels):
            left = call.left()
            try:
                begun = call.begin(left)
            except Exception as error:  # noqa: BLE001 - the caller's serializer may raise anything
                begun = self._could_not_begin(error)
            if begun is not None and not call.settle(begun, elsewhere=True):
                begun.cancel()
        elif self.availability.fails(call.wait_for_ready, call.labels):
            call.settle(self.unavailable(call.labels), elsewhere=True)
        elif call.left() == 0.0:
            call.settle(self._too_late(call.labels), elsewhere=True)

    def _could_not_begin(self, error: Exception) -> Any:
        if self.availability.closed:
            return _closed()
        if isinstance(error, grpc.Call):  # gRPC's own, such as a request that can't be serialized
            # Not itself: it is a call in name, and calls nobody back.
            return EndedCall(error.code(), error.details() or "")
        return EndedCall(grpc.StatusCode.INTERNAL, f"the call could not begin: {error!r}")

    # The end.

    def close(self) -> None:
        """End everything. Idempotent; from any thread."""
        if self.availability.closed:
            return
        self.availability.closed = True
        self._questions.close()
        self.probes.close()
        self._watch.close()
        self._reporting.close()
        self._wake.ring()
        self.callbacks.clear()
        self._publish()
        self._settle_deferred()
        self._close_all()
        self.alarms.close()
        self.balancer.say_raised()

    def _close_all(self) -> None:
        for link in [*self._links, *(link for link, _ in list(self._opened))]:
            _close(link)

    def forked(self) -> None:
        """See ``Copied``: calls fail with the reason, and closing does nothing."""
        self._closed_text = FORKED
        self.availability.closed = True

    def abandon(self) -> None:
        """The channel was dropped: what is in flight may finish, then connections go."""
        if self._closed_text is FORKED:
            return
        self._abandoned = True
        self.availability.closed = True
        self._questions.close()
        self.probes.close()
        self._watch.close()
        self._reporting.close()
        self._wake.ring()


def _close(link: SyncLink) -> None:
    if not link.closed:
        link.close()


def _closed() -> EndedCall:
    return EndedCall(grpc.StatusCode.CANCELLED, _CLOSED_IN_FLIGHT)


def _connection_error(channel: grpc.Channel) -> str:
    probe: Any = channel.unary_unary(_PROBE)
    try:
        probe(b"", timeout=_PROBE_S)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return error.details() or ""
    return ""
