"""A live cluster as a source: its Services and EndpointSlices, watched."""

from __future__ import annotations

import asyncio
import socket
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC, datetime
from random import Random

import aiohttp

from trimtab.discovery import Contact, ReportProblem
from trimtab.discovery.kube_objects import (
    CHANGED_ANNOTATION,
    EndpointSlice,
    KubeObject,
    Pod,
    Service,
)
from trimtab.discovery.kubernetes import metrics
from trimtab.discovery.kubernetes.access import Access
from trimtab.discovery.kubernetes.api import Api, ApiError, Target
from trimtab.discovery.kubernetes.pod_watches import PodWatches
from trimtab.discovery.kubernetes.reflector import Batch, Gone, Reflector
from trimtab.discovery.kubernetes.settling import Settling
from trimtab.discovery.kubernetes.timing import Timing
from trimtab.discovery.kubernetes.turns import Turn
from trimtab.discovery.kubernetes.wire import SERVICES, SLICES
from trimtab.discovery.latest import latest
from trimtab.discovery.pods import PodFacts
from trimtab.discovery.slices import SliceFold
from trimtab.model import Removed, SourceEvent, Updated
from trimtab.telemetry import Counters

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
        self._fold = SliceFold(report, region=region)
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
        self._pods = PodFacts(report)
        self._pod_watches: PodWatches | None = None
        self._settling = Settling(self._timing.settle_s)
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
                        yield event
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

    async def _apply(self, target: Target, batch: Batch) -> None:
        """Fold a batch; it is told as a whole, so that what moves within it is never absent."""
        changed: dict[str, Updated | Removed] = {}
        async with self._applying:
            turn = Turn()
            for item in batch.items:
                if turn.over:
                    await turn.give()
                if isinstance(item, Gone):
                    latest(self._deleted(target, item), changed)
                elif not isinstance(item, Pod):
                    latest(self._added(item), changed)
                    if not batch.complete:
                        self._measure_lag(item)
            enriched = {name: self._pods.enrich(event) for name, event in changed.items()}
            self._untold[target.namespace].update(enriched)
            if self._pod_watches is not None:
                self._pod_watches.follow()
        if batch.complete:
            self._listed.add(target)
        self._news.set()

    def _added(self, obj: KubeObject) -> list[Updated | Removed]:
        asked = isinstance(obj, Service) and self._pods.ask(obj)
        events = self._fold.apply(obj)
        if asked and not events:
            meta = obj.metadata
            events = [
                Updated(snapshot)
                for snapshot in self._fold.clusters()
                if snapshot.service
                and (snapshot.service.namespace, snapshot.service.service)
                == (meta.namespace, meta.name)
            ]
        return events

    def _deleted(self, target: Target, gone: Gone) -> list[Updated | Removed]:
        if target.resource is SLICES:
            return self._fold.delete(EndpointSlice, *gone.key)
        self._pods.forget_service(gone.key)
        return self._fold.delete(Service, *gone.key)

    def _tell_pods(self, namespace: str, events: Sequence[Updated]) -> None:
        """Clusters came out different, by what their pods say."""
        own = any(target.namespace == namespace for target in self._targets)
        untold = self._untold[namespace if own else ""]
        untold.update({event.snapshot.cluster: event for event in events})
        self._news.set()

    def _measure_lag(self, obj: KubeObject) -> None:
        if not isinstance(obj, EndpointSlice):
            return
        text = obj.metadata.annotation(CHANGED_ANNOTATION)
        if not text:
            return
        try:
            changed = datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError):
            return
        self._counters.observe(metrics.EVENT_LAG, max(0.0, self._wall() - changed), self._label)

    async def _check(self, reflector: Reflector) -> None:
        """Compare with the API server's state now and then; at different times in each replica."""
        loop = asyncio.get_running_loop()
        while True:
            due = asyncio.Event()
            timer = loop.call_later(self._timing.check_s * self._random.uniform(0.5, 1.5), due.set)
            try:
                await due.wait()
            finally:
                timer.cancel()
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
