"""Notices that something under a path changed: directory watching, and a slow look in any case.

Directories are watched, not files, so that atomic renames and the ``..data`` symlink swap of a
mounted ConfigMap are seen; and the parent too, so that a directory that is removed and comes back,
or a symlink that is pointed elsewhere, is seen as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

import watchfiles

from trimtab.discovery.pause import pause

RESCAN_S = 2.0
SETTLE_MS = 5  # how long watchfiles gathers before it reports; its default of 50 is felt


async def changes(path: Path) -> AsyncGenerator[None]:
    """One item per burst of changes, and one every ``RESCAN_S`` in any case. Never ends."""
    path = path.absolute()  # noqa: ASYNC240 - asks the system for the working directory only

    def concerns(_: watchfiles.Change, changed: str) -> bool:
        found = Path(changed)
        # Kubelet's own entries begin with two dots; files of a directory have it as their parent.
        return path.name in (found.name, found.parent.name) or found.name.startswith("..")

    while True:
        watched = _directories(path)
        if not watched:
            await pause(RESCAN_S)
            yield
            continue
        try:
            async for _ in watchfiles.awatch(
                *watched,
                watch_filter=concerns,
                step=SETTLE_MS,
                debounce=SETTLE_MS * 20,
                rust_timeout=int(RESCAN_S * 1e3),
                yield_on_timeout=True,
                recursive=False,
            ):
                yield
                if _directories(path) != watched:
                    break  # a watch belongs to the directory, not to its name
        except (OSError, RuntimeError):
            # A directory went between the look and the watch, or the system has no more watches.
            await pause(RESCAN_S)
        yield


def _directories(path: Path) -> dict[Path, tuple[int, int]]:
    """The directories to watch, and which ones they are now."""
    found: dict[Path, tuple[int, int]] = {}
    for directory in (path, path.parent):
        with contextlib.suppress(OSError):
            if directory.is_dir():
                stat = directory.stat()
                found[directory] = (stat.st_dev, stat.st_ino)
    return found
