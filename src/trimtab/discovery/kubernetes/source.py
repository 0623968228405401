"""A live cluster as a source: its Services and EndpointSlices, watched."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from random import Random

import aiohttp

from trimtab.discovery import Contact, ReportProblem
from trimtab.discovery.addresses import AddressRules, Network
from trimtab.discovery.kube_objects import (
    CHANGED_ANNOTATION,
    EndpointSlice,
    KubeObject,
    Pod,
    Service,
)
from trimtab.discovery.kubernetes import metrics
from trimtab.discovery.kubernetes.access import Access, api_address
from trimtab.discovery.kubernetes.api import Api, ApiError, Target
from trimtab.discovery.kubernetes.pod_watches import PodWatches
from trimtab.discovery.kubernetes.reflector import Batch, Gone, Reflector
from trimtab.discovery.kubernetes.settling import Settling
from trimtab.discovery.kubernetes.timing import Timing
from trimtab.discovery.kubernetes.turns import Turn
from trimtab.discovery.kubernetes.wire import SERVICES, SLICES, Key
from trimtab.discovery.kubernetes.withholding import Withholding, bereft, is_mass
from trimtab.discovery.latest import latest
from trimtab.discovery.pause import pause
from trimtab.discovery.pods import PodFacts
from trimtab.discovery.slices import SliceFold
from trimtab.model import Removed, SourceEvent, Updated
from trimtab.telemetry import Counters

_LOG = logging.getLogger(__name__)

_NAMED = 5  # Services, in a line of the log
_BUFFER = 1 << 20  # bytes; when a watch is twice as much ahead, it has to wait
# A peer that vanished without a word is noticed after these: TCP's own probes [s, number, ms].
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 35_000),
)


def _wall_clock() -> float:
    return datetime.now(UTC).timestamp()


class Kubernetes:
    """A source over one cluster's API server.

    Args:
        access: where it is, and the credentials.
        report: hears of every rejected part; its last good state stays in use.
        region: put into each endpoint's locality: the cluster's name where several are read.
        ranges: nothing outside of these is an endpoint; none: no such limit.
        namespaces: which to read; none means all.
        selector: which Services, by their labels; "" means all. EndpointSlices are always read,
            since slices that other controllers write need not have their Service's labels.
        counters: what is counted.
        label: the source's name in metrics and logs.
        timing: how long to wait for what.
        random: draws the jitter.
        wall: the wall clock [Unix seconds].
    """

    def __init__(
        self,
        access: Access,
        report: ReportProblem,
        *,
        region: str = "",
        ranges: tuple[Network, ...] = (),
        namespaces: Sequence[str] = (),
        selector: str = "",
        counters: Counters | None = None,
        label: str = "kubernetes",
        timing: Timing | None = None,
        random: Random | None = None,
        wall: Callable[[], float] = _wall_clock,
    ) -> None:
        self._access = access
        self._report = report
        self._counters = counters or Counters(metrics.METRICS)
        self._label = label
        self._timing = timing or Timing()
        self._random = random or Random()
        self._wall = wall
        self._fold = SliceFold(
            report, rules=AddressRules(ranges=ranges, api_server=api_address(access)), region=region
        )
        self._selector = selector
        self._targets = [
            target
            for namespace in dict.fromkeys(namespaces) or ("",)
            for target in (Target(SERVICES, namespace, selector), Target(SLICES, namespace))
        ]
        self._reflectors: list[Reflector] = []
        self._listed: set[Target] = set()
        # By the namespace that was read ("" for all), and cluster.
        self._untold: dict[str, dict[str, Updated | Removed]] = defaultdict(dict)
        self._origins: dict[str, float] = {}  # by cluster: when what is told next happened
        self._pods = PodFacts(report)
        self._pod_watches: PodWatches | None = None
        self._settling = Settling(self._timing.settle_s)
        self._withholding: Withholding[tuple[Target, Key]] = Withholding(self._timing.hold_s)
        self._missed = asyncio.Event()
        self._applying = asyncio.Lock()
        self._news = asyncio.Event()

    def contact(self) -> Contact:
        """How it stands with the API server: as the worst of its watches."""
        pods = self._pod_watches.reflectors() if self._pod_watches else ()
        contacts = [reflector.contact() for reflector in (*self._reflectors, *pods)]
        heard = [c.heard for c in contacts]
        failing = [c for c in contacts if c.failing_since is not None]
        return Contact(
            None if not heard or None in heard else min(h for h in heard if h is not None),
            min((c.failing_since for c in failing if c.failing_since is not None), default=None),
            failing[0].reason if failing else "",
        )

    async def events(self) -> AsyncGenerator[SourceEvent]:
        """Yield changes for ever. For one reader, once.

        No failure of the API server ends it: what is known stays in use, and it is asked again.
        """
        connector = aiohttp.TCPConnector(limit=0, socket_factory=_socket)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._timing.connect_s)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, trust_env=False, read_bufsize=_BUFFER
        ) as session:
            api = Api(self._access, session, self._timing, self._wall)
            clock = asyncio.get_running_loop().time

            def reflector(target: Target) -> Reflector:
                return Reflector(
                    api,
                    target,
                    timing=self._timing,
                    random=self._random,
                    clock=clock,
                    report=self._report,
                    counters=self._counters,
                    label=self._label,
                )

            self._reflectors = [reflector(target) for target in self._targets]
            watches = self._pod_watches = PodWatches(
                self._pods,
                reflector,
                self._check if self._timing.check_s else None,
                self._tell_pods,
            )
            tasks = [asyncio.create_task(self._reflect(r)) for r in self._reflectors]
            tasks.append(asyncio.create_task(self._give_up(clock)))
            if self._timing.check_s:
                tasks += [asyncio.create_task(self._check(r)) for r in self._reflectors]
            try:
                while True:
                    news = asyncio.create_task(self._news.wait())
                    try:
                        patience = watches.patience(
                            self._settling.due, clock(), synced=self._fold.synced
                        )
                        done, _ = await asyncio.wait(
                            (news, *tasks, *watches.tasks()),
                            timeout=patience,
                            return_when=asyncio.FIRST_COMPLETED,
                        )
                    finally:
                        news.cancel()
                    for task in done - {news}:
                        if not task.cancelled():  # pods that nobody asks for any more
                            task.result()  # they never end but by a fault of ours
                    self._news.clear()
                    turn = Turn()
                    for event in self._settling.tell(self._take_untold(), clock()):
                        yield self._dated(event)
                        if turn.over:
                            await turn.give()
                    everything = len(self._listed) == len(self._targets) and watches.ready
                    if not self._fold.synced and everything:
                        yield self._fold.sync()
            finally:
                tasks += watches.tasks()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def _take_untold(self) -> list[Updated | Removed]:
        """What there is of the namespaces that are known: Services alone would look empty."""
        waiting = {target.namespace for target in self._targets if target not in self._listed}
        if not self._fold.synced and self._pod_watches and not self._pod_watches.ready:
            # A client that chooses by label would find nobody.
            return []
        known = [namespace for namespace in self._untold if namespace not in waiting]
        return [event for n in known for event in self._untold.pop(n).values()]

    async def _reflect(self, reflector: Reflector) -> None:
        async for batch in reflector.batches():
            await self._apply(reflector.target, batch)

    async def _apply(self, target: Target, batch: Batch, *, given_up: bool = False) -> None:
        """Fold a batch; it is told as a whole, so that what moves within it is never absent."""
        changed: dict[str, Updated | Removed] = {}
        async with self._applying:
            turn = Turn()
            for item in self._given_up(target) if given_up else self._believed(target, batch):
                if turn.over:
                    await turn.give()
                if isinstance(item, Gone):
                    latest(self._deleted(target, item), changed)
                elif not isinstance(item, Pod):
                    events = self._pods.fold(self._fold, item)
                    # What a list has may have changed long ago, before anybody watched.
                    self._note_origin(events, None if batch.complete else self._measure_lag(item))
                    latest(events, changed)
            enriched = {name: self._pods.enrich(event) for name, event in changed.items()}
            self._untold[target.namespace].update(enriched)
            if self._pod_watches is not None:
                self._pod_watches.follow()
        if batch.complete:
            self._listed.add(target)
        self._news.set()

    def _believed(self, target: Target, batch: Batch) -> Iterable[KubeObject | Pod | Gone]:
        """The batch without the losses that are held back (``withholding``)."""
        for item in batch.items if len(self._withholding) else ():
            key = (
                item.key
                if isinstance(item, Gone)
                else (item.metadata.namespace, item.metadata.name)
            )
            if self._withholding.seen((target, key)) and not isinstance(item, Gone):
                _LOG.warning("%s: %s %s is there again", self._label, target.resource.kind, key)
        gone = [i for i in batch.items if isinstance(i, Gone)] if batch.complete else []
        if not gone or target.resource not in {SERVICES, SLICES}:
            self._count_withheld()
            return batch.items
        keys = {item.key for item in gone}
        kept, why = self._disbelieved(target, keys, batch)
        now = asyncio.get_running_loop().time()
        if not self._withholding.keep([(target, key) for key in kept], now):
            self._count_withheld()
            return batch.items
        _LOG.error(
            "%s: a list lacks %d objects (%s) with %s, and no watch told of a deletion; "
            "they are kept for %g s (--hold-down), in case that is the API server's mistake",
            self._label,
            len(kept),
            target,
            why,
            self._timing.hold_s,
        )
        self._count_withheld()
        self._missed.set()
        return [i for i in batch.items if not (isinstance(i, Gone) and i.key in kept)]

    def _disbelieved(
        self, target: Target, keys: Collection[Key], batch: Batch
    ) -> tuple[Collection[Key], str]:
        """Which of the objects that a list lacks are not believed to be gone, and of which endpoints."""
        kind = EndpointSlice if target.resource is SLICES else Service
        losses, known = self._fold.losses(kind, keys), self._fold.all_endpoints()
        lost = sum(count for _, count in losses.values())
        if is_mass(lost, known):
            return keys, f"{lost} of {known} endpoints"
        services = bereft(losses, self._fold.size)
        services -= self._fold.changed_by(batch.items, services)
        kept = {key for key, (service, _) in losses.items() if service in services}
        names = [f"{namespace}/{name}" for namespace, name in sorted(services)]
        return kept, f"most endpoints of {', '.join(names[:_NAMED])}" + (
            f" and {len(names) - _NAMED} more Services" if len(names) > _NAMED else ""
        )

    def _count_withheld(self) -> None:
        self._counters.set(metrics.WITHHELD, len(self._withholding), self._label)

    def _given_up(self, target: Target) -> Sequence[Gone]:
        """What was kept long enough; asked under the lock, since it may be there again by now."""
        now = asyncio.get_running_loop().time()
        gone = [Gone(key) for _, key in self._withholding.over(now, lambda key: key[0] == target)]
        if gone:
            _LOG.warning("%s: %d objects (%s) are gone", self._label, len(gone), target)
        self._count_withheld()
        return gone

    async def _give_up(self, clock: Callable[[], float]) -> None:
        """Let go of what was kept long enough."""
        while True:
            due = self._withholding.due
            try:
                async with asyncio.timeout(None if due is None else max(0.0, due - clock())):
                    await self._missed.wait()
                self._missed.clear()
                continue
            except TimeoutError:
                pass
            for target in self._targets:
                await self._apply(target, Batch([]), given_up=True)

    def _deleted(self, target: Target, gone: Gone) -> list[Updated | Removed]:
        if target.resource is SLICES:
            return self._fold.delete(EndpointSlice, *gone.key)
        self._pods.forget_service(gone.key)
        for key in self._fold.slices_of(gone.key):
            # That its Service was deleted is evidence too: one of that name to come must not get its pods.
            if self._withholding.seen((Target(SLICES, target.namespace), key)):
                self._count_withheld()
                self._fold.delete(EndpointSlice, *key)
        return self._fold.delete(Service, *gone.key)

    def _tell_pods(self, namespace: str, events: Sequence[Updated]) -> None:
        """Clusters came out different, by what their pods say."""
        own = any(target.namespace == namespace for target in self._targets)
        untold = self._untold[namespace if own else ""]
        untold.update({event.snapshot.cluster: event for event in events})
        self._news.set()

    def _note_origin(self, events: Iterable[Updated | Removed], lag_s: float | None) -> None:
        """What these tell happened ``lag_s`` ago; unknown, it counts from when it is told."""
        for event in events:
            if isinstance(event, Removed) or lag_s is None:
                self._origins.pop(_cluster_of(event), None)
            else:
                happened = asyncio.get_running_loop().time() - lag_s
                self._origins[event.snapshot.cluster] = happened

    def _dated(self, event: SourceEvent) -> SourceEvent:
        if isinstance(event, Updated):
            return Updated(event.snapshot, self._origins.pop(event.snapshot.cluster, None))
        return event

    def _measure_lag(self, obj: KubeObject) -> float | None:
        """How long ago an object's change was triggered [s], as it says itself; None: it doesn't."""
        if not isinstance(obj, EndpointSlice):
            return None
        text = obj.metadata.annotation(CHANGED_ANNOTATION)
        if not text:
            return None
        try:
            changed = datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError):
            return None
        lag_s = max(0.0, self._wall() - changed)
        self._counters.observe(metrics.EVENT_LAG, lag_s, self._label)
        return lag_s

    async def _check(self, reflector: Reflector) -> None:
        """Compare with the API server's state now and then; at different times in each replica."""
        while True:
            await pause(self._timing.check_s * self._random.uniform(0.5, 1.5))
            try:
                await reflector.check()
            except ApiError:
                continue  # the watch meets the same, and says so


def _socket(info: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = info
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    for level, option, value in _KEEPALIVE:
        made.setsockopt(level, option, value)
    return made


def _cluster_of(event: Updated | Removed) -> str:
    return event.cluster if isinstance(event, Removed) else event.snapshot.cluster
