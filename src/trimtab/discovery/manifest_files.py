"""The manifest files of a path, and what each held when it was last good.

A file that breaks keeps its last good objects; one that goes takes its objects with it, unless the
whole directory went: that is "unknown", not "empty". Files are not always replaced in one step
(editors, ``git checkout`` and shell redirections remove or empty them first), so what would take
objects away is believed only after it held for a moment. What adds or changes objects is taken
at once.
"""

from __future__ import annotations

import hashlib
import math
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from trimtab.discovery import ReportProblem
from trimtab.discovery.documents import BrokenFile, documents
from trimtab.discovery.kube_objects import WATCHED, Watched, decode_watched, describe
from trimtab.errors import DiscoveryError
from trimtab.model import Problem

MAX_BYTES = 64 * 1024 * 1024
SUFFIXES = {".yaml": False, ".yml": False, ".json": True}  # whether it is JSON
GRACE_S = 0.1  # how long a loss must last; a file written in place is complete within that
MAX_GRACE_S = 2.0  # a file that is written to all the time is believed after this

Identity = tuple[type[Watched], str, str]


class Stamp(NamedTuple):
    """By what a changed file is told."""

    inode: int
    modified_ns: int
    size: int


@dataclass(slots=True)
class _File:
    """One file.

    Attributes:
        objects: the last good ones.
        unread: it never was good.
        verify_at: when to compare its bytes once more [s]: file times have a grain of some
            milliseconds, so a change right after the reading may have left the stamp as it was.
    """

    stamp: Stamp
    digest: bytes = b""
    objects: dict[Identity, Watched] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    ignored: int = 0
    broken: bool = False
    unread: bool = False
    verify_at: float = math.inf


@dataclass(slots=True)
class _Doubt:
    """A loss that is not believed yet. Times are of the caller's clock [s]."""

    stamp: Stamp | None
    until: float
    latest: float


class ManifestFiles:
    """All files of a path, read on demand; blocking, and for one thread at a time.

    Args:
        path: a file, or a directory whose ``.yaml``, ``.yml`` and ``.json`` files are read (not
            those of its sub-directories, nor hidden ones).
        report: hears of every rejected part.
        max_bytes: a larger file is refused.
    """

    def __init__(self, path: Path, report: ReportProblem, *, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._report = report
        self._max_bytes = max_bytes
        self._files: dict[Path, _File] = {}
        self._doubts: dict[Path, _Doubt] = {}
        self._gone = False
        self._twice: set[Problem] = set()

    def require(self, name: str = "--manifests") -> None:
        """Make sure that the path can be read at all.

        Args:
            name: what the path is called where it was given.

        Raises:
            DiscoveryError: it can't; the text says why and what to do.
        """
        where = f"{name} {self._path}"
        try:
            mode = self._path.stat().st_mode
            if stat.S_ISDIR(mode):
                next(self._path.iterdir(), None)
            elif not stat.S_ISREG(mode):
                raise DiscoveryError(f"{where}: this is neither a file nor a directory; name one")
        except FileNotFoundError:
            raise DiscoveryError(
                f"{where}: there is no such file or directory; create it, or name another"
            ) from None
        except OSError as error:
            raise DiscoveryError(
                f"{where}: it can't be read ({error.strerror}); let this user read it"
            ) from error

    @property
    def unread(self) -> bool:
        """Whether some file was never good, so that not everything is known yet."""
        return any(file.unread for file in self._files.values()) or not (
            self._doubts.keys() <= self._files.keys()
        )

    @property
    def ignored(self) -> int:
        """How many objects of other kinds the files hold."""
        return sum(file.ignored for file in self._files.values())

    def __len__(self) -> int:
        return len(self._files)

    def recheck_in(self, now: float) -> float | None:
        """When to read again although nothing changes [s from now]; None: no need."""
        return max(0.0, min(d.until for d in self._doubts.values()) - now) if self._doubts else None

    def read(self, now: float) -> bool:
        """Bring the files up to date. Whether any object may have changed.

        Args:
            now: the time [s] of any monotonic clock.
        """
        present = self._present()
        if present is None:
            self._doubts.clear()
            return False
        changed = False
        for path in self._doubts.keys() - self._files.keys() - present.keys():
            del self._doubts[path]  # gone before it was ever good
        for path in self._files.keys() - present.keys():
            if self._believed(path, None, now):
                del self._files[path]
                changed = True
        for path, stamp in present.items():
            known = self._files.get(path)
            if known is None or known.stamp != stamp or known.verify_at <= now:
                changed |= self._take(path, stamp, known, now)
            else:
                self._doubts.pop(path, None)
        return changed

    def objects(self) -> dict[Identity, Watched]:
        """All objects. One that stands in two files is taken from the first by name."""
        wanted: dict[Identity, Watched] = {}
        owner: dict[Identity, Path] = {}
        twice: set[Problem] = set()
        for path, file in sorted(self._files.items()):
            for identity, obj in file.objects.items():
                first = owner.setdefault(identity, path)
                if first == path:
                    wanted[identity] = obj
                else:
                    twice.add(_stands_twice(obj, path.name, f"in {first.name}"))
        for problem in sorted(twice - self._twice, key=str):
            self._report(problem)
        self._twice = twice
        return wanted

    def _present(self) -> dict[Path, Stamp] | None:
        """The files that are there now; None if that can't be said."""
        try:
            found = dict(self._stamps())
        except OSError as error:
            if not self._gone:
                self._report(
                    Problem(
                        str(self._path),
                        "",
                        "",
                        f"it can't be read any more ({error.strerror}); the last good state of "
                        "all its files stays in use until it is back",
                    )
                )
            self._gone = True
            return None
        self._gone = False
        return found

    def _stamps(self) -> Iterator[tuple[Path, Stamp]]:
        if not self._path.is_dir():
            yield self._path, _stamp(self._path)
            return
        for path in sorted(self._path.iterdir()):
            if path.suffix in SUFFIXES and not path.name.startswith("."):
                try:
                    yield path, _stamp(path)
                except IsADirectoryError:
                    continue
                except OSError:
                    if path.is_symlink() or path.exists():  # unreadable or dangling is not gone
                        yield path, Stamp(0, 0, 0)

    def _take(self, path: Path, stamp: Stamp, known: _File | None, now: float) -> bool:
        new = self._load(path, stamp, known)
        if new is None:  # the same bytes
            assert known is not None  # noqa: S101 - _load compared with it
            known.verify_at = math.inf if known.stamp == stamp else now + GRACE_S
            known.stamp = stamp
            self._doubts.pop(path, None)
            return False
        new.verify_at = now + GRACE_S
        in_place = known is None or known.stamp.inode == stamp.inode
        loses = new.broken or (
            known is not None and bool(known.objects.keys() - new.objects.keys())
        )
        if in_place and loses and not self._believed(path, stamp, now):
            return False
        self._doubts.pop(path, None)
        for problem in new.problems:
            self._report(problem)
        self._files[path] = new
        return True

    def _believed(self, path: Path, stamp: Stamp | None, now: float) -> bool:
        """Whether a loss has lasted long enough."""
        doubt = self._doubts.get(path)
        if doubt is None:
            self._doubts[path] = _Doubt(stamp, now + GRACE_S, now + MAX_GRACE_S)
            return False
        if doubt.stamp != stamp:
            doubt.stamp, doubt.until = stamp, min(now + GRACE_S, doubt.latest)
        if now < doubt.until:
            return False
        del self._doubts[path]
        return True

    def _load(self, path: Path, stamp: Stamp, known: _File | None) -> _File | None:
        """Read one file; None if it holds the same bytes as before."""
        new = _File(stamp)
        if stamp.size < 0:  # to open a pipe would wait for ever
            self._break(new, known, path, "it is no ordinary file")
            return new
        try:
            with path.open("rb") as stream:
                data = stream.read(self._max_bytes + 1)
        except OSError as error:
            self._break(new, known, path, f"it can't be read ({error.strerror})")
            return new
        if len(data) > self._max_bytes:
            size = f"{stamp.size:,} bytes, more than {self._max_bytes:,}"
            self._break(new, known, path, f"it has {size}; split it")
            return new
        new.digest = hashlib.blake2b(data, digest_size=16).digest()
        if known is not None and known.digest == new.digest:
            return None
        try:
            raw = documents(data, json=SUFFIXES.get(path.suffix, False))
        except BrokenFile as error:
            self._break(new, known, path, str(error), error.line)
            return new
        for number, document in enumerate(raw, 1):
            self._add(new, known, document, f"{path.name}, document {number}")
        return new

    @staticmethod
    def _break(new: _File, known: _File | None, path: Path, reason: str, line: int = 0) -> None:
        new.broken = True
        new.unread = known is None or known.unread
        new.objects = {} if known is None else known.objects
        new.ignored = 0 if known is None else known.ignored
        if new.unread:
            then = "mend or remove it: a source syncs once each file was good"
        else:
            then = "its last good state stays in use"
        where = f"{path}:{line}" if line else str(path)
        new.problems.append(Problem(where, "", "", f"{reason}; {then}"))

    @staticmethod
    def _add(new: _File, known: _File | None, document: object, where: str) -> None:
        found = decode_watched(document, where)
        if found is None:
            new.ignored += 1
        elif isinstance(found, Problem):
            new.problems.append(found)
            before = _identity_of_bad(document)
            # A bad object is no deletion: what it was before stays.
            if before is not None and known is not None and before in known.objects:
                new.objects.setdefault(before, known.objects[before])
        else:
            identity = (type(found), found.metadata.namespace, found.metadata.name)
            if identity in new.objects:
                new.problems.append(_stands_twice(found, where, "further up in the same file"))
            else:
                new.objects[identity] = found


def _stamp(path: Path) -> Stamp:
    """Follows symlinks, so that the swap of one is seen.

    Raises:
        IsADirectoryError: it is a directory.
        OSError: it is not there, can't be read, or is a pipe or the like.
    """
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(path)
    if not stat.S_ISREG(found.st_mode):
        return Stamp(found.st_ino, 0, -1)
    return Stamp(found.st_ino, found.st_mtime_ns, found.st_size)


def _stands_twice(obj: Watched, where: str, other: str) -> Problem:
    name = describe(type(obj).__name__, obj.metadata)
    return Problem(
        f"{name} ({where})", "", "", f"it stands {other} as well, which is used; remove one"
    )


def _identity_of_bad(document: object) -> Identity | None:
    """Which object a bad document would be, if that can be told."""
    if not isinstance(document, dict) or not isinstance(document.get("metadata"), dict):
        return None
    kind = WATCHED.get((str(document.get("apiVersion")), str(document.get("kind"))))
    if kind is None:
        return None
    meta = document["metadata"]
    return (kind, str(meta.get("namespace") or "default"), str(meta.get("name")))
