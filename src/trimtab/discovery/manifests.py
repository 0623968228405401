"""Services, EndpointSlices and Pods from files: a file or directory, read again when it changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path

from trimtab.discovery import ReportProblem
from trimtab.discovery.addresses import AddressRules, Network
from trimtab.discovery.kube_objects import Pod, Service, Watched
from trimtab.discovery.latest import latest
from trimtab.discovery.manifest_files import MAX_BYTES, Identity, ManifestFiles
from trimtab.discovery.path_watch import changes
from trimtab.discovery.pods import PodFacts
from trimtab.discovery.slices import SliceFold
from trimtab.model import Problem, Removed, SourceEvent, Updated


class Manifests:
    """A source over ordinary manifests on disk.

    Args:
        path: a file, or a directory whose ``.yaml``, ``.yml`` and ``.json`` files are read (not
            those of its sub-directories, nor hidden ones).
        report: hears of every rejected part, on any thread; its last good state stays in use.
        max_bytes: a larger file is refused.
        ranges: nothing outside of these is an endpoint; none: no such limit, and loopback may be one.
    """

    def __init__(
        self,
        path: Path,
        report: ReportProblem,
        *,
        max_bytes: int = MAX_BYTES,
        ranges: tuple[Network, ...] = (),
    ) -> None:
        self._path = path
        self._report = report
        self._files = ManifestFiles(path, report, max_bytes=max_bytes)
        self._applied: dict[Identity, Watched] = {}
        self._fold = SliceFold(report, rules=AddressRules(allow_loopback=not ranges, ranges=ranges))
        self._pods = PodFacts(report)
        self._loose: set[Problem] = set()

    def contact(self) -> None:
        """Files are there or not: nothing to lose contact with."""

    async def events(self) -> AsyncGenerator[SourceEvent]:
        """Yield changes for ever. For one reader, once.

        ``Synced`` waits until each file was good once: what a file says that was broken from the
        beginning is unknown, and taking that for "nothing" would take its Services down.

        Raises:
            DiscoveryError: the path is not there at the start, or can't be read.
        """
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._files.require)
        watch = changes(self._path)
        pending = asyncio.ensure_future(anext(watch))
        try:
            while True:
                # Its first step sets the watch up: no change falls between it and the reading.
                await asyncio.wait((pending,), timeout=0)
                # On a thread, since a large file takes seconds.
                if await asyncio.to_thread(self._files.read, loop.time()):
                    for event in self._apply():
                        yield event
                if not self._files.unread:
                    if not self._fold.synced:
                        yield self._fold.sync()
                    self._report_loose_ends()
                await asyncio.wait((pending,), timeout=self._files.recheck_in(loop.time()))
                if pending.done():
                    pending.result()
                    pending = asyncio.ensure_future(anext(watch))
        finally:
            pending.cancel()
            with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
                await pending
            await watch.aclose()

    def _apply(self) -> list[Updated | Removed]:
        """The difference to what was applied before; of each cluster only its last state."""
        wanted = self._files.objects()
        applied, self._applied = self._applied, wanted
        asked = self._pods.wanted
        events: dict[str, Updated | Removed] = {}
        for identity, obj in wanted.items():
            if not isinstance(obj, Pod) and applied.get(identity) != obj:
                latest(self._pods.fold(self._fold, obj), events)
        for kind, namespace, name in applied.keys() - wanted.keys():
            if kind is Service:
                self._pods.forget_service((namespace, name))
            if not issubclass(kind, Pod):
                latest(self._fold.delete(kind, namespace, name), events)
        events = {name: self._pods.enrich(event) for name, event in events.items()}
        for namespace in asked.keys() | self._pods.wanted.keys():
            anew = asked.get(namespace) != self._pods.wanted.get(namespace)
            latest(self._follow_pods(namespace, applied, anew=anew), events)
        return list(events.values())

    def _follow_pods(
        self, namespace: str, applied: Mapping[Identity, Watched], *, anew: bool
    ) -> list[Updated | Removed]:
        """Take in what changed of a namespace's pods; ``anew``: other labels of them are wanted."""
        if namespace not in self._pods.wanted:
            self._pods.forget_namespace(namespace)
            return []
        changed: list[str] = []
        for identity in applied.keys() - self._applied.keys():
            old = applied[identity]
            if isinstance(old, Pod) and old.metadata.namespace == namespace:
                self._pods.remove(identity[1:])
                changed.append(old.metadata.uid or "")
        for identity, obj in self._applied.items():
            if isinstance(obj, Pod) and obj.metadata.namespace == namespace:
                before = applied.get(identity)
                if anew or before != obj:
                    changed.append(self._pods.put(obj))
                    if isinstance(before, Pod):
                        changed.append(before.metadata.uid or "")
        return list(self._pods.touched(namespace, changed))

    def _report_loose_ends(self) -> None:
        loose = set(self._fold.loose_ends())
        for problem in sorted(loose - self._loose, key=str):
            self._report(problem)
        self._loose = loose
