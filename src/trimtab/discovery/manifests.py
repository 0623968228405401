"""Services and EndpointSlices from files: a file or directory, read again when it changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

from trimtab.discovery import ReportProblem
from trimtab.discovery.kube_objects import KubeObject
from trimtab.discovery.latest import latest
from trimtab.discovery.manifest_files import MAX_BYTES, Identity, ManifestFiles
from trimtab.discovery.path_watch import changes
from trimtab.discovery.slices import SliceFold
from trimtab.model import Problem, Removed, SourceEvent, Updated


class Manifests:
    """A source over ordinary manifests on disk.

    Args:
        path: a file, or a directory whose ``.yaml``, ``.yml`` and ``.json`` files are read (not
            those of its sub-directories, nor hidden ones).
        report: hears of every rejected part, on any thread; its last good state stays in use.
        max_bytes: a larger file is refused.
    """

    def __init__(self, path: Path, report: ReportProblem, *, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._report = report
        self._files = ManifestFiles(path, report, max_bytes=max_bytes)
        self._applied: dict[Identity, KubeObject] = {}
        self._fold = SliceFold(report, allow_loopback=True)
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
        steps = [self._fold.apply(o) for i, o in wanted.items() if self._applied.get(i) != o]
        steps.extend(
            self._fold.delete(kind, namespace, name)
            for kind, namespace, name in self._applied.keys() - wanted.keys()
        )
        self._applied = wanted
        return list(latest(event for step in steps for event in step).values())

    def _report_loose_ends(self) -> None:
        loose = set(self._fold.loose_ends())
        for problem in sorted(loose - self._loose, key=str):
            self._report(problem)
        self._loose = loose
