"""What the sources say, put into the catalog, and news of it to the streams concerned.

Lives on one asyncio loop and is touched by nothing else. Nothing is told to anybody before every
source has delivered all that it began with: until then a missing cluster is unknown, not absent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from trimtab.control import metrics
from trimtab.control.batching import Batching
from trimtab.control.joining import joined
from trimtab.control.problems import Problems
from trimtab.discovery import Contact, Source
from trimtab.discovery.kubernetes.withholding import is_mass, is_most
from trimtab.errors import DiscoveryError
from trimtab.model import Health, Problem, Removed, Snapshot, SourceEvent, Synced, Updated
from trimtab.telemetry import Counters
from trimtab.xds.catalog import Catalog

_LOG = logging.getLogger(__name__)

PATIENCE_S = 30.0
HOLD_S = 120.0


class Listener(Protocol):
    """A stream that wants to know of changes."""

    def changed(self, clusters: Collection[str], since: float) -> bool:
        """These clusters changed, the first of them at ``since`` [s, loop time].

        Returns whether the listener is concerned.
        """


@dataclass(slots=True)
class NamedSource:
    """A source with the name that logs and metrics call it by.

    Attributes:
        source: what is read.
        name: see above.
        synced: whether it delivered all that it began with.
        last_event: when it last said anything [s, loop time].
        snapshots: what is known of it.
        restored: what the state file held of it, until it is synced.
        on_trust: which of ``snapshots`` are the state file's, and the source has not confirmed.
    """

    name: str
    source: Source
    synced: bool = False
    last_event: float | None = None
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    restored: dict[str, Snapshot] = field(default_factory=dict)
    on_trust: set[str] = field(default_factory=set)

    @property
    def certain(self) -> bool:
        """Whether all that is known of it was heard from it."""
        return self.synced and not self.on_trust

    @property
    def out_of_contact(self) -> bool:
        """Whether it can't be read at present, so that what is known of it gets old."""
        contact = self.contact()
        return contact is not None and contact.failing_since is not None

    def contact(self) -> Contact | None:
        """How it stands with what it reads."""
        return self.source.contact()


class Store:
    """Owns the catalog.

    Args:
        catalog: what is answered from.
        counters: what is counted.
        clock: loop time [s].
        batching: when changes leave.
        patience_s: how long the sources that are synced wait for the others at the start, before
            clients are answered without them.
        hold_s: how long clusters of the state file stay that a source does not know any more, if
            they are many; 0: not at all.
    """

    def __init__(
        self,
        catalog: Catalog,
        counters: Counters,
        *,
        clock: Callable[[], float],
        batching: Batching | None = None,
        patience_s: float = PATIENCE_S,
        hold_s: float = HOLD_S,
    ) -> None:
        self.catalog = catalog
        self.problems = Problems()
        self.synced = asyncio.Event()
        self.changed_at: dict[str, float] = {}
        self.origins: dict[str, float] = {}  # when the last change of a cluster really happened
        self.sources: list[NamedSource] = []
        self._counters = counters
        self._clock = clock
        self._batching = batching or Batching()
        self._patience_s = patience_s
        self._patience: asyncio.TimerHandle | None = None
        self._hold_s = hold_s
        self._saved: tuple[Mapping[str, Mapping[str, Snapshot]], float] = ({}, 0.0)
        self._grace: asyncio.TimerHandle | None = None
        self._holds: list[asyncio.TimerHandle] = []
        self.revision = 0
        # What takes a cluster or its last endpoints away, told once the catalog is complete.
        self._takeaways: dict[str, Updated | Removed] = {}
        self._held_since: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._listeners: set[Listener] = set()

    def listen(self, listener: Listener) -> None:
        """Tell ``listener`` of changes from now on."""
        self._listeners.add(listener)

    def forget(self, listener: Listener) -> None:
        """Tell it nothing any more."""
        self._listeners.discard(listener)

    def reauthorize(self) -> None:
        """Who may see what has changed: every stream looks again at all it has and may have."""
        self.catalog.reauthorize()
        self._leave(self.catalog.clusters().keys(), self._clock())

    async def run(self, sources: Sequence[tuple[str, Source]]) -> None:
        """Apply what the sources say, for ever.

        Raises:
            DiscoveryError: a source ended or failed; the text names it and its reason.
        """
        self.sources = [NamedSource(name, source) for name, source in sources]
        for source in self.sources:
            self._counters.set(metrics.SOURCE_SYNCED, 0, source.name)
            self._counters.set(metrics.ON_TRUST, 0, source.name)
            self._counters.add(metrics.PROBLEMS, source.name, by=0)
        self._remember()
        tasks = [asyncio.create_task(self._follow(s), name=s.name) for s in self.sources]
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for timer in (self._timer, self._patience, self._grace, *self._holds):
                if timer is not None:
                    timer.cancel()

    def remember(self, saved: Mapping[str, Mapping[str, Snapshot]], after_s: float) -> None:
        """What was known last, before ``run``.

        Args:
            saved: snapshots by source and cluster.
            after_s: how long a source may take before clients are answered from it in its place.
        """
        self._saved = (saved, after_s)

    def waiting_for(self) -> tuple[str, ...]:
        """The sources that have not delivered everything yet."""
        return tuple(s.name for s in self.sources if not s.synced)

    def report(self, source: str) -> Callable[[Problem], None]:
        """Where the source of that name reports what it rejects, from any thread."""
        loop = asyncio.get_running_loop()

        def report(problem: Problem) -> None:
            loop.call_soon_threadsafe(self._note_problem, source, problem)

        return report

    def _note_problem(self, source: str, problem: Problem) -> None:
        self._counters.add(metrics.PROBLEMS, source)
        if self.problems.report(source, problem, self._clock()):
            _LOG.warning("%s: rejected: %s", source, problem)

    def measure(self) -> None:
        """Bring the gauges up to date, before they are read."""
        now = self._clock()
        health = dict.fromkeys(Health, 0)
        empty = 0
        clusters = self.catalog.clusters()
        for snapshot in clusters.values():
            empty += not snapshot.usable()
            for state, count in snapshot.counts().items():
                health[state] += count
        counters = self._counters
        counters.set(metrics.CLUSTERS, len(clusters))
        counters.set(metrics.EMPTY_CLUSTERS, empty)
        for state, count in health.items():
            counters.set(metrics.ENDPOINTS, count, state.value)
        for source in self.sources:
            if source.last_event is not None:
                counters.set(metrics.SOURCE_AGE, now - source.last_event, source.name)
            contact = source.contact()
            if contact is not None:
                failing = contact.failing_since is not None
                counters.set(metrics.FAILING, 1 if failing else 0, source.name)
                if contact.heard is not None:
                    counters.set(metrics.CONTACT_AGE, now - contact.heard, source.name)

    async def _follow(self, source: NamedSource) -> None:
        try:
            async for event in source.source.events():
                self._take(source, event)
        except DiscoveryError as error:
            raise DiscoveryError(f"source {source.name} failed: {error}") from error
        except Exception as error:
            raise DiscoveryError(
                f"source {source.name} failed unexpectedly: {type(error).__name__}: {error}"
            ) from error
        raise DiscoveryError(f"source {source.name} ended; it should never end")

    def _take(self, source: NamedSource, event: SourceEvent) -> None:
        now = self._clock()
        source.last_event = now
        if isinstance(event, Synced):
            self._source_synced(source, now)
            return
        since = now
        if isinstance(event, Updated):
            cluster = event.snapshot.cluster
            source.snapshots[cluster] = event.snapshot
            if event.since is not None:
                since = min(now, event.since)
        else:
            cluster = event.cluster
            source.snapshots.pop(cluster, None)
        if cluster in source.on_trust:
            source.on_trust.discard(cluster)
            self._count_trust(source)
        if isinstance(event, Removed):
            source.restored.pop(cluster, None)
        self._offer(cluster, since, now)

    def _offer(self, cluster: str, since: float, now: float) -> None:
        """Tell what is known of a cluster, unless it takes away what another source may still have."""
        event = self._in_force(cluster, since)
        self._takeaways.pop(cluster, None)
        takes_away = isinstance(event, Removed) or not event.snapshot.usable()
        if takes_away and not self.catalog.complete:
            if not (self.synced.is_set() and cluster in self.catalog):
                # Another source, which is not heard yet, may have some: a client keeps what it has.
                self._takeaways[cluster] = event
                return
            # Clients were told of these endpoints, and whoever had them says that they are gone:
            # that they stay where they are told would send requests to whom the addresses go next.
            if isinstance(event, Removed):
                self._takeaways[cluster] = event  # the Service itself may be another source's
                event = Updated(replace(self.catalog.clusters()[cluster], endpoints=()))
        self._apply(event, now)

    def _in_force(self, cluster: str, since: float) -> Updated | Removed:
        offers = [(s.name, s.snapshots[cluster]) for s in self.sources if cluster in s.snapshots]
        if not offers:
            return Removed(cluster)
        return Updated(joined(offers, self._note_problem), since)

    def _source_synced(self, source: NamedSource, now: float) -> None:
        source.synced = True
        self._counters.set(metrics.SOURCE_SYNCED, 1, source.name)
        self._compare(source)
        if self.catalog.complete:
            return
        if self.waiting_for():
            if self._patience is None:
                loop = asyncio.get_running_loop()
                self._patience = loop.call_later(self._patience_s, self._out_of_patience)
            return
        self.catalog.apply(Synced())
        for event in self._takeaways.values():
            self._apply(event, now)
        self._takeaways.clear()
        _LOG.info("all sources synced: %d clusters", len(self.catalog.clusters()))
        self._answer(now)

    def _remember(self) -> None:
        """Begin with what the state file holds, should a source not be heard in time."""
        saved, after_s = self._saved
        for source in self.sources:
            source.restored = dict(saved.get(source.name, {}))
        if any(source.restored for source in self.sources):
            loop = asyncio.get_running_loop()
            self._grace = loop.call_later(after_s, self._answer_from_memory)

    def _answer_from_memory(self) -> None:
        now = self._clock()
        for source in self.sources:
            if source.synced or not source.restored:
                continue
            contact = source.contact()
            _LOG.error(
                "source %s has not delivered its state (%s); clients are answered with %d clusters of "
                "the state file until it has",
                source.name,
                (contact.reason if contact else "") or "no reason known",
                len(source.restored),
            )
            self._trust(source, source.restored.keys() - source.snapshots.keys(), now)
        if any(s.on_trust for s in self.sources) and not self.synced.is_set():
            self._answer_incomplete(now)

    def _compare(self, source: NamedSource) -> None:
        """A source is heard: what of the state file it doesn't know is gone, or held if it is much."""
        restored, now = source.restored, self._clock()
        source.restored = {}
        missing = {c for c in restored if c in source.on_trust or c not in source.snapshots}
        if not missing:
            if restored:
                _LOG.info("source %s confirms what the state file knew", source.name)
            return
        counts = {cluster: len(snapshot.usable()) for cluster, snapshot in restored.items()}
        lost, all_of_it = sum(counts[c] for c in missing), sum(counts.values())
        if not is_mass(lost, all_of_it):
            missing = {c for c in missing if is_most(counts[c], counts[c])}
        if not self._hold_s or not missing:
            self._drop(source, source.on_trust)
            return
        self._drop(source, source.on_trust - missing)
        source.restored = restored
        self._trust(source, missing - source.on_trust, now)
        source.restored = {}
        _LOG.error(
            "source %s does not know %d clusters with %d of the %d endpoints that were known last; "
            "they stay for %g s (--hold-down), in case that is its mistake",
            source.name,
            len(missing),
            sum(counts[c] for c in missing),
            all_of_it,
            self._hold_s,
        )
        loop = asyncio.get_running_loop()
        self._holds.append(loop.call_later(self._hold_s, self._drop, source, source.on_trust))

    def _trust(self, source: NamedSource, clusters: Collection[str], now: float) -> None:
        for cluster in clusters:
            source.snapshots[cluster] = source.restored[cluster]
            source.on_trust.add(cluster)
            self._offer(cluster, now, now)
        self._count_trust(source)

    def _drop(self, source: NamedSource, clusters: Collection[str]) -> None:
        """What nobody confirmed is gone."""
        now, dropped = self._clock(), sorted(clusters)
        source.on_trust.difference_update(dropped)
        self._count_trust(source)
        for cluster in dropped:
            source.snapshots.pop(cluster, None)
            self._offer(cluster, now, now)
        if dropped:
            _LOG.warning(
                "source %s: %d clusters of the state file are gone", source.name, len(dropped)
            )

    def _count_trust(self, source: NamedSource) -> None:
        self._counters.set(metrics.ON_TRUST, len(source.on_trust), source.name)

    def _out_of_patience(self) -> None:
        """Go on without the sources that are not heard: one lost cluster must not block all."""
        if self.catalog.complete:
            return
        for source in self.sources:
            if not source.synced:
                contact = source.contact()
                _LOG.error(
                    "source %s has not delivered its state for %g s since the first one did (%s); "
                    "clients are answered without it, and not at all where nothing else is known",
                    source.name,
                    self._patience_s,
                    (contact.reason if contact else "") or "no reason known",
                )
        if not self.synced.is_set():
            self._answer_incomplete(self._clock())

    def _answer_incomplete(self, now: float) -> None:
        for cluster in self._takeaways:
            # Nobody was told of it yet, and what is known of it is out of date: it is unknown.
            self.catalog.apply(Removed(cluster))
        self.catalog.answer_incomplete()
        self._answer(now)

    def _answer(self, now: float) -> None:
        self._counters.set(metrics.READY, 1)
        self.synced.set()
        self._leave(self.catalog.clusters().keys(), now)

    def _apply(self, event: Updated | Removed, now: float) -> None:
        changed = self.catalog.apply(event)
        self.revision += 1
        origin = now if isinstance(event, Removed) or event.since is None else event.since
        leaving: set[str] = set()
        for cluster in changed:
            self._counters.add(metrics.CHANGES)
            self.changed_at[cluster] = now
            self.origins[cluster] = origin
            if not self.synced.is_set():
                continue
            if self._batching.changed(cluster, now):
                leaving.add(cluster)
            else:
                self._counters.add(metrics.CHANGES_HELD)
                self._held_since.setdefault(cluster, now)
        if isinstance(event, Removed):
            self.changed_at.pop(event.cluster, None)
            self.origins.pop(event.cluster, None)
        if leaving:
            self._leave(leaving, now)
        self._set_timer()

    def _leave(self, clusters: Collection[str], since: float) -> None:
        for listener in tuple(self._listeners):
            if listener.changed(clusters, since):
                self._counters.add(metrics.PUSHES)

    def _set_timer(self) -> None:
        due = self._batching.next_due()
        if due is None:
            return
        if self._timer is not None:
            if not self._timer.cancelled() and self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(due, self._window_ends)

    def _window_ends(self) -> None:
        self._timer = None
        now = self._clock()
        clusters = self._batching.due(now)
        if clusters:
            self._leave(clusters, min(self._held_since.pop(c, now) for c in clusters))
        self._set_timer()
