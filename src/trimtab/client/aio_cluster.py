"""The connections to one cluster's endpoints on an event loop, and who waits for them.

One native channel per endpoint, each with a task that tells the balancer whether it is connected.
Everything happens on the loop that the channel was made for, so there is no lock; snapshots cross
from the subscription's thread by ``call_soon_threadsafe``.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from random import Random
from typing import Any

import grpc
import grpc.aio

from trimtab.attempt import report_of
from trimtab.balancer import BEAT_S, Balancer, Node, Pick
from trimtab.client import observing
from trimtab.client.aio_probes import AioProbes
from trimtab.client.availability import Availability
from trimtab.client.channel_spec import ChannelSpec, Options, target_of
from trimtab.client.gone_channel import GONE
from trimtab.client.links import Link, Links
from trimtab.client.liveness import AioQuestions
from trimtab.client.native_channels import asyncio_channel
from trimtab.client.policy_errors import PolicyErrors
from trimtab.client.request_labels import wanted_labels
from trimtab.client.watching import Closable, Fixed, Watch
from trimtab.model import Snapshot

_log = logging.getLogger("trimtab.client")

# What a channel in TRANSIENT_FAILURE answers to any call at once names the connection error, which
# gRPC gives nowhere else. If it connects at that very moment, the server sees a health check.
_CLOSED = "Channel is closed."
_PROBE = "/grpc.health.v1.Health/Check"
_PROBE_S = 1.0
_LAST_STATE_S = 0.1  # it comes within a millisecond, or not at all


class AioLink(Link):
    """One endpoint's native channel.

    Attributes:
        channel: the native channel.
        health: the one that watches the endpoint's health, or None; see ``client.health``.
        tasks: follow their connectivity.
        wanted: whether it is to be connected.
    """

    __slots__ = ("channel", "health", "tasks", "wanted")

    def __init__(self, channel: grpc.aio.Channel) -> None:
        super().__init__()
        self.channel = channel
        self.health: grpc.aio.Channel | None = None
        self.tasks: list[asyncio.Task[None]] = []
        self.wanted = True

    @property
    def channels(self) -> list[grpc.aio.Channel]:
        """All native channels of it."""
        return [self.channel] if self.health is None else [self.channel, self.health]

    def let_go(self) -> None:
        """Keep nothing of gRPC: the channels are closed."""
        self.channel, self.health, self.tasks = GONE, None, []

    def is_cut(self) -> bool:
        """See ``Link``."""
        if self.was_cut is not None:
            return self.was_cut
        return self.channel.get_state() is not grpc.ChannelConnectivity.READY

    def state(self) -> grpc.ChannelConnectivity:
        """READY only if it is connected and healthy."""
        state = self.channel.get_state()
        if state is grpc.ChannelConnectivity.READY and self.health is not None:
            return self.health.get_state()
        return state


class AioCluster:
    """A cluster's endpoints as one channel sees them.

    Args:
        spec: what the caller asked for.
        loop: where everything happens.
        link: makes an endpoint's link from its native channel.
        on_ready: called with True when calls can leave at once, with False when they can't, or
            when the policy wants keys that their metadata holds.

    Raises:
        ConfigError: the policy is unknown or has a bad parameter.
    """

    def __init__(
        self,
        spec: ChannelSpec,
        loop: asyncio.AbstractEventLoop,
        link: Callable[[grpc.aio.Channel], AioLink],
        on_ready: Callable[[bool], None],
    ) -> None:
        clock = time.monotonic  # noqa: TID251 - the door gives the core its clock
        self._policy_errors = PolicyErrors(spec.service)
        self.balancer = Balancer(
            spec.service,
            clock=clock,
            random=Random(),
            wall=time.time,  # noqa: TID251 - as above
            zone=spec.zone,
            labels=spec.labels,
            policy=spec.policy,
            stalled=self._question,
            raised=self._policy_errors,
            lock=threading.RLock(),
            report_of=report_of,
        )
        self.clock = clock
        self.closed_text = _CLOSED
        self.attempts = spec.attempts(Random(), self.balancer)
        self.followed: Callable[[], None] = lambda: None
        self.observer = observing.installed()
        self.availability = Availability(spec.service, self.balancer, clock, spec.complaint)
        self._questions = AioQuestions(loop)
        self.probes = AioProbes(self.balancer, loop, clock)
        self._spec = spec
        self.key_function = spec.hash_key
        self._loop = loop
        self._link = link
        self._on_ready = on_ready
        self._links: set[AioLink] = set()
        self.links = Links(
            spec.connections, spec.renewed, clock, Random(), self._open, self.release
        )
        self._closings: set[asyncio.Task[None]] = set()
        self._waiters: set[asyncio.Future[None]] = set()
        self._refreshing = False
        self._direct = False
        self._unfinished: Snapshot | None = None  # was not taken to its end
        self._watch: Watch = Fixed()
        self._reporting: Closable = Fixed()
        self._beating: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to follow the endpoints.

        Raises:
            ConfigError: a wrong endpoint or bootstrap.
        """
        self._watch = self._spec.watch(self)
        self._reporting = self._spec.report(self.balancer)
        self.availability.origin = self._watch.origin
        self._beat()

    def _beat(self) -> None:
        if not self.availability.closed:
            self._beating = self._loop.call_later(
                BEAT_S, self._beat
            )  # first: what follows may raise
            self.balancer.beat()
            self.links.beat(self.balancer.nodes.values())
            if self._unfinished is not None:
                self._update(self._unfinished)

    # What the watch calls, from any thread.

    def updated(self, snapshot: Snapshot) -> None:
        """See ``Watcher``."""
        self.on_loop(self._update, snapshot)

    def failed(self, reason: str) -> None:
        """See ``Watcher``."""
        self.on_loop(self._fail, reason)

    def on_loop(self, step: Callable[..., object], *args: object) -> None:
        """Take a step on the loop soon; from any thread."""
        try:
            self._loop.call_soon_threadsafe(step, *args)
        except RuntimeError:  # the loop was closed, and the channel with it
            self._watch.close()
            self._reporting.close()

    def soon(self, step: Callable[..., object], *args: object) -> None:
        """The same, for finalisers: on the loop's own thread it is cheaper."""
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            running.call_soon(step, *args)
        else:
            self.on_loop(step, *args)

    # On the loop from here on.

    def _update(self, snapshot: Snapshot) -> None:
        if self.availability.closed:
            return
        self._unfinished = snapshot
        try:
            self._take(snapshot)
        except Exception as error:  # noqa: BLE001 - a bug must not leave the channel stale for ever
            _log.exception("following the endpoints of %s failed; goes on", self._spec.target)
            self.availability.trouble = repr(error)
        else:
            self._unfinished = None
            self.availability.trouble = ""
        self._refresh()

    def _take(self, snapshot: Snapshot) -> None:
        change = self.balancer.update(snapshot)
        self._policy_errors.refused(self.balancer.policy_error)
        self.attempts.follow(snapshot.service)
        self.followed()
        self.availability.updated()
        for node in change.removed:
            self.links.leave(node)
        for node in self.balancer.nodes.values():
            self._want(node)

    def _fail(self, reason: str) -> None:
        self.availability.failure = reason
        self._refresh()

    def _want(self, node: Node) -> None:
        """Connect an endpoint that may get requests; leave the others as they are."""
        link: AioLink | None = node.transport
        if link is None:
            if node.usable:
                self.links.first(node)
        elif link.wanted is not node.usable:
            self.links.shed(node)
            link.wanted = node.usable
            for channel in link.channels:
                channel.get_state(try_to_connect=link.wanted)

    def _open(self, node: Node) -> AioLink:
        where = target_of(node.endpoint)
        options, watching = self._spec.endpoint_options()
        link = self._link(self._native(where, options))
        if watching is not None:
            link.health = self._native(where, watching)
        self._links.add(link)
        link.tasks = [
            asyncio.Task(self._follow(node, link, channel), loop=self._loop)
            for channel in link.channels
        ]
        return link

    def _native(self, where: str, options: Options) -> grpc.aio.Channel:
        spec = self._spec
        return asyncio_channel(where, spec.credentials, options, spec.compression)

    def release(self, link: AioLink) -> None:
        """Close a link that has nothing in flight."""
        if link in self._links:
            self._links.discard(link)
            link.was_cut = link.is_cut()
            closing = asyncio.Task(_close(link), loop=self._loop)
            self._closings.add(closing)
            closing.add_done_callback(self._closings.discard)

    async def _follow(self, node: Node, link: AioLink, channel: grpc.aio.Channel) -> None:
        while True:
            own = channel.get_state(try_to_connect=link.wanted)
            if own is grpc.ChannelConnectivity.SHUTDOWN:
                return
            await self._look(node, link)
            await channel.wait_for_state_change(own)

    def stand(self, node: Node, link: AioLink) -> bool:
        """See how an endpoint's connection is now, before it is told; whether it has failed."""
        state = link.state()
        connected = state is grpc.ChannelConnectivity.READY
        if connected:
            link.failing = False
            link.error = ""
        failed = state is grpc.ChannelConnectivity.TRANSIENT_FAILURE
        self.links.looked(node, link, connected=connected, failed=failed)
        if node.connected is not node.transport.connected:
            self.balancer.set_connected(node, node.transport.connected)
            self._changed()
        return failed

    async def _look(self, node: Node, link: AioLink) -> None:
        failed = self.stand(node, link)
        if failed and not link.failing and not link.leaving:
            link.error = await _connection_error(link.channels[-1])
            link.failing = True
            self._changed()

    def _changed(self) -> None:
        """Look at the standing once, however many endpoints change in this round of the loop."""
        if not self._refreshing:
            self._refreshing = True
            self._loop.call_soon(self._refresh)

    def _refresh(self) -> None:
        self._refreshing = False
        self.availability.refresh()
        # A closed channel refuses calls where it would place them.
        by_call = self.balancer.hash_key is not None and (
            self.balancer.hash_key or self.key_function is not None
        )
        direct = self.availability.closed or (self.availability.ready() and not by_call)
        if direct is not self._direct:
            self._direct = direct
            self._on_ready(direct)
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _question(self, node: Node) -> None:
        link: AioLink | None = node.transport
        if link is not None and not link.leaving and not self.availability.closed:
            self._questions.ask(
                link.channel,
                alive=lambda: self.balancer.alive(node),
                again=lambda: self._question_again(node),
            )

    def _question_again(self, node: Node) -> None:
        if self.balancer.is_silent(node):
            self._question(node)

    # What calls wait for.

    async def change(self) -> None:
        """Wait until something about the endpoints changes."""
        waiter = self._loop.create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    async def until_ready(self, budget: float | None, wait_for_ready: bool | None) -> float | None:
        """Wait until a call can leave; return what is left of its deadline's ``budget`` [s].

        Raises:
            grpc.aio.AioRpcError: UNAVAILABLE or DEADLINE_EXCEEDED, with the reason.
            grpc.aio.UsageError: the channel was closed before.
            asyncio.CancelledError: the channel was closed meanwhile.
        """
        availability = self.availability
        labels = wanted_labels()
        if availability.ready(labels):
            return budget
        if availability.closed:
            raise grpc.aio.UsageError(self.closed_text)
        begin = self._loop.time()
        try:
            async with asyncio.timeout(budget):
                while not availability.ready(labels):
                    if availability.closed:
                        raise asyncio.CancelledError
                    if availability.fails(wait_for_ready, labels):
                        raise _error(grpc.StatusCode.UNAVAILABLE, availability.explain(labels))
                    await self.change()
        except TimeoutError:
            raise _error(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"Deadline Exceeded while waiting: {availability.explain(labels)}",
            ) from None
        return None if budget is None else max(0.0, budget - (self._loop.time() - begin))

    # The end.

    def close(self) -> None:
        """Let no call leave any more; wake those that wait."""
        self.availability.closed = True
        self._questions.close()
        if self._beating is not None:
            self._beating.cancel()
        self.probes.close()
        self._watch.close()
        self._reporting.close()
        self._refresh()
        self.balancer.say_raised()

    def placed(self) -> list[Pick]:
        """What is in flight, on connections that get no new requests too."""
        return [pick for link in self._links for pick in link.open]

    async def release_all(self) -> None:
        """Close all endpoints' channels, whatever is in flight on them."""
        for link in list(self._links):
            self.release(link)
        if self._closings:
            await asyncio.wait(self._closings)

    def abandon(self) -> None:
        """The channel was dropped without being closed; from any thread, even after the loop."""
        self._watch.close()
        self._reporting.close()
        try:
            self._loop.call_soon_threadsafe(self._abandon)
        except (
            RuntimeError
        ):  # the loop was closed: its tasks have ended, channels close unreferenced
            self._links.clear()

    def _abandon(self) -> None:
        self.close()
        for link in list(self._links):
            self.release(link)


async def _close(link: AioLink) -> None:
    """Close a link's channels, and hear the last of their states.

    gRPC tells it to the loop that asked. Once that one is closed, gRPC keeps it and all loops after it, and
    complains where it should have told it. It tells none while somebody keeps a call, and be it one that has
    ended: that one keeps gRPC's channel, and nobody shall wait for it.
    """
    for channel in link.channels:
        await channel.close()
    await asyncio.wait(link.tasks, timeout=_LAST_STATE_S)
    for task in link.tasks:
        task.cancel()
    link.let_go()


async def _connection_error(channel: grpc.aio.Channel) -> str:
    probe: Any = channel.unary_unary(_PROBE)
    try:
        await probe(b"", timeout=_PROBE_S)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return error.details() or ""
    return ""


def _error(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details, debug_error_string=details
    )
