"""Services and EndpointSlices from files: a file or directory, read again when it changes.

A file that breaks keeps its last good state until it is mended; one that goes takes its objects
with it. The *directory* is watched, so that atomic renames and the ``..data`` symlink swap of a
mounted ConfigMap are seen; a slow re-scan catches what a watch can't promise.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import watchfiles

from trimtab.discovery import ReportProblem
from trimtab.discovery.documents import BrokenFile, documents
from trimtab.discovery.kube_objects import (
    EndpointSlice,
    KubeObject,
    Service,
    decode,
    describe,
)
from trimtab.discovery.slices import SliceFold
from trimtab.errors import DiscoveryError
from trimtab.model import Problem, SourceEvent, Synced

MAX_BYTES = 64 * 1024 * 1024
RESCAN_MS = 2_000
SETTLE_MS = 5  # how long watchfiles gathers before it reports; its default of 50 is felt
SUFFIXES = {".yaml": False, ".yml": False, ".json": True}  # whether it is JSON

Identity = tuple[type[KubeObject], str, str]


@dataclass(slots=True)
class _File:
    """What a file held when it was last good; ``unread`` if it never was."""

    stamp: tuple[int, int, int]
    objects: dict[Identity, KubeObject] = field(default_factory=dict)
    unread: bool = False


class Manifests:
    """A source over ordinary manifests on disk.

    Args:
        path: a file, or a directory whose ``.yaml``, ``.yml`` and ``.json`` files are read (not
            those of its sub-directories, nor hidden ones).
        report: hears of every rejected part; the last good state of it stays in use.
        max_bytes: a larger file is refused.
    """

    def __init__(self, path: Path, report: ReportProblem, *, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._report = report
        self._max_bytes = max_bytes
        self._files: dict[Path, _File] = {}
        self._applied: dict[Identity, KubeObject] = {}
        self._fold = SliceFold(report, allow_loopback=True)

    async def events(self) -> AsyncIterator[SourceEvent]:
        """Yield changes for ever.

        ``Synced`` waits until each file was good once: what a file says that was broken from the
        beginning is unknown, and taking that for "nothing" would take its Services down.

        Raises:
            DiscoveryError: the path is not there at the start, or can't be read.
        """
        if not self._path.exists():
            raise DiscoveryError(
                f"--manifests {self._path}: there is no such file or directory; "
                "create it, or name another"
            )
        changes = self._changes()
        try:
            # The watch begins before the first reading, so that no change falls between the two.
            pending = asyncio.ensure_future(anext(changes))
            for event in await self._read():
                yield event
            synced = False
            while True:
                if not synced and not any(file.unread for file in self._files.values()):
                    yield Synced()
                    synced = True
                await pending
                pending = asyncio.ensure_future(anext(changes))
                for event in await self._read():
                    yield event
        finally:
            pending.cancel()
            with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
                await pending
            await changes.aclose()

    async def _changes(self) -> AsyncGenerator[None]:
        """One item per burst of changes, and one every ``RESCAN_MS`` in any case."""
        while True:
            watched = self._path if self._path.is_dir() else self._path.parent
            if not watched.exists():  # removed and, perhaps, about to return
                await _pause(RESCAN_MS / 1e3)
                yield
                continue
            try:
                async for _ in watchfiles.awatch(
                    watched,
                    watch_filter=None,
                    step=SETTLE_MS,
                    debounce=SETTLE_MS * 20,
                    rust_timeout=RESCAN_MS,
                    yield_on_timeout=True,
                    recursive=False,
                ):
                    yield
                    if not watched.exists():
                        break
            except (OSError, RuntimeError) as error:
                self._problem(watched, f"it can't be watched ({error}); reading it every 2 s")
                await _pause(RESCAN_MS / 1e3)
                yield

    async def _read(self) -> list[SourceEvent]:
        """Read what changed and apply the difference."""
        present = self._present()
        changed = False
        for gone in self._files.keys() - present.keys():
            del self._files[gone]
            changed = True
        for path, stamp in present.items():
            known = self._files.get(path)
            if known is not None and known.stamp == stamp:
                continue
            file = await asyncio.to_thread(self._load, path, stamp)
            if file is None:
                # Broken: its last good objects stay, and it is not read again until it changes.
                self._files[path] = (
                    _File(stamp, known.objects, known.unread)
                    if known
                    else _File(stamp, unread=True)
                )
            else:
                self._files[path] = file
            changed = True
        return self._apply() if changed else []

    def _present(self) -> dict[Path, tuple[int, int, int]]:
        try:
            paths = (
                sorted(
                    p
                    for p in self._path.iterdir()
                    if p.suffix in SUFFIXES and not p.name.startswith(".")
                )
                if self._path.is_dir()
                else [self._path]
            )
        except OSError:
            paths = []
        found: dict[Path, tuple[int, int, int]] = {}
        for path in paths:
            with contextlib.suppress(OSError):
                stat = path.stat()  # follows symlinks: a swap changes the inode
                found[path] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        return found

    def _load(self, path: Path, stamp: tuple[int, int, int]) -> _File | None:
        """Read one file; on a thread, since a large one takes seconds."""
        known = self._files.get(path)
        size = stamp[1]
        if size > self._max_bytes:
            self._problem(path, f"it has {size:,} bytes, more than {self._max_bytes:,}; split it")
            return None
        try:
            data = path.read_bytes()
            raw = documents(data, json=SUFFIXES.get(path.suffix, False))
        except OSError as error:
            self._problem(path, f"it can't be read: {error.strerror}")
            return None
        except BrokenFile as error:
            if known is None or known.unread:
                then = "mend or remove it: a source syncs once each file was good"
            else:
                then = "its last good state stays in use"
            self._problem(path, f"{error}; {then}", error.line)
            return None
        file = _File(stamp)
        for i, document in enumerate(raw):
            obj = decode(document, f"{path.name}, document {i + 1}")
            if isinstance(obj, Problem):
                self._report(obj)
                self._keep_last_good(document, known, file)
            elif obj is not None:
                file.objects[_identity(obj)] = obj
        return file

    @staticmethod
    def _keep_last_good(document: object, known: _File | None, file: _File) -> None:
        """A bad object is no deletion: what it was before stays."""
        if known is None or not isinstance(document, dict):
            return
        meta = document.get("metadata")
        if not isinstance(meta, dict):
            return
        kind = {"Service": Service, "EndpointSlice": EndpointSlice}.get(str(document.get("kind")))
        if kind is None:
            return
        identity = (kind, str(meta.get("namespace") or "default"), str(meta.get("name")))
        if identity in known.objects:
            file.objects[identity] = known.objects[identity]

    def _apply(self) -> list[SourceEvent]:
        wanted: dict[Identity, KubeObject] = {}
        owner: dict[Identity, Path] = {}
        for path, file in sorted(self._files.items()):
            for identity, obj in file.objects.items():
                if identity in wanted:
                    self._problem(
                        path,
                        f"{describe(identity[0].__name__, obj.metadata)} is in "
                        f"{owner[identity].name} as well, which is used; remove one",
                    )
                    continue
                wanted[identity] = obj
                owner[identity] = path
        events: list[SourceEvent] = []
        # Additions before deletions: an endpoint that moves between slices is never absent.
        for identity, obj in wanted.items():
            if self._applied.get(identity) != obj:
                events.extend(self._fold.apply(obj))
        for kind, namespace, name in self._applied.keys() - wanted.keys():
            events.extend(self._fold.delete(kind, namespace, name))
        self._applied = wanted
        return events

    def _problem(self, path: Path, fix: str, line: int = 0) -> None:
        self._report(Problem(f"{path}:{line}" if line else str(path), "", "", fix))


def _identity(obj: KubeObject) -> Identity:
    return (type(obj), obj.metadata.namespace, obj.metadata.name)


async def _pause(seconds: float) -> None:
    """Wait without a busy loop."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()
