"""Whom a channel calls while it has nobody: a last good list, or endpoints that somebody else looks after.

As an aggregate cluster has it (Envoy; gRFC A37): the service's own endpoints first, while it has any; else
the fallback. It begins

* at a start without an answer from the control plane: when that is known to be unreachable, or after half a
  second of silence, with the last good list if there is one, else with the fixed endpoints;
* when the service has no endpoint that could be used (or was never known): with the fixed endpoints, which
  may be the Service's own by annotation. What was good before is no longer, so a last good list is no help.

It ends with the first list from the control plane that has an endpoint.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from trimtab.client.forking import hold_across_forks
from trimtab.client.last_good import LastGood, LastGoodFile
from trimtab.client.metrics import COUNTERS
from trimtab.client.watching import Watch, Watcher
from trimtab.discovery.static import snapshot_of
from trimtab.errors import ConfigError
from trimtab.model import Endpoint, Snapshot

PARAM = "fallback"
"""The policy's parameter that carries a Service's annotation."""
_PATIENCE_S = 0.5  # at a start; a cold start with a last good list promises a first answer in 1 s
_SAVE_AFTER_S = 0.2  # changes of a rollout come in bursts

_log = logging.getLogger("trimtab.client")
_counting = threading.Lock()
hold_across_forks(_counting)
_changes: deque[tuple[str, int]] = deque()  # that are yet to be counted

Given = str | Endpoint | LastGood


@dataclass(frozen=True, slots=True)
class Fallback:
    """What the caller gave, read.

    Attributes:
        last_good: where lists are kept, or None.
        fixed: endpoints, perhaps none.
    """

    last_good: LastGood | None = None
    fixed: tuple[Endpoint, ...] = ()

    @classmethod
    def of(cls, service: str, given: LastGood | Iterable[Given] | None, directory: str) -> Fallback:
        """From a factory's argument.

        Args:
            service: the channel's.
            given: what the caller said.
            directory: of last good lists, by the environment; "": none.

        Raises:
            ConfigError: an endpoint is malformed, or there are two directories.
        """
        if isinstance(given, str):
            raise ConfigError(f"fallback: {given!r} is one text; give a list, such as [{given!r}]")
        if isinstance(given, Mapping) or not isinstance(given, LastGood | Iterable | None):
            raise ConfigError(f"fallback: {given!r} is no list; give one, such as ['host:8080']")
        items = [given] if isinstance(given, LastGood) else list(given or ())
        kept = [item for item in items if isinstance(item, LastGood)]
        if len(kept) > 1:
            raise ConfigError("fallback: two LastGood; give one")
        if not kept and directory:
            kept = [LastGood(directory)]
        try:
            fixed = snapshot_of(service, [e for e in items if not isinstance(e, LastGood)])
        except ConfigError as error:
            raise ConfigError(f"fallback: {error}") from None
        return cls(kept[0] if kept else None, fixed.endpoints)


NONE = Fallback()


class WithFallback:
    """Stands between a watch and a door: a ``Watcher`` to the one, the ``Watch`` of the other.

    Args:
        service: the channel's.
        watcher: the door.
        fallback: what the caller gave.
        wall: Unix seconds.
    """

    def __init__(
        self, service: str, watcher: Watcher, fallback: Fallback, wall: Callable[[], float]
    ) -> None:
        self._service = service
        self._watcher = watcher
        self._fixed = fallback.fixed
        where = fallback.last_good
        self._file = None if where is None else LastGoodFile(where, service, wall)
        self._lock = threading.RLock()
        self._good = False  # the control plane has said something that can be used
        self._active = ""
        self._to_save: Snapshot | None = None
        self._saving: threading.Timer | None = None
        self._waiting: threading.Timer | None = None
        self._closed = False
        self._watch: Watch | None = None

    def start(self, watch: Callable[[Watcher], Watch]) -> None:
        """Begin to watch."""
        if self._file is not None or self._fixed:
            self._waiting = _after(_PATIENCE_S, self._silent)
        self._watch = watch(self)

    @property
    def origin(self) -> str:
        """See ``Watch``."""
        return self._watch.origin if self._watch is not None else ""

    def close(self) -> None:
        """See ``Watch``. Waits for nobody: a finaliser may hold what a thread that is inside waits for."""
        self._closed = True
        self._let_go()
        if self._watch is not None:
            self._watch.close()

    @contextmanager
    def _inside(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        finally:
            if self._closed:
                self._let_go()

    def _let_go(self) -> None:
        """End what a closed one has begun; where a thread is inside, it does so as it leaves.

        Timers find out for themselves: to cancel one takes its lock, which its own thread may hold where it is interrupted.
        """
        if self._lock.acquire(blocking=False):
            try:
                self._end("")
            finally:
                self._lock.release()

    # What the watch calls.

    def updated(self, snapshot: Snapshot) -> None:
        """See ``Watcher``."""
        with self._inside():
            if self._closed:
                return
            if self._waiting is not None:
                self._waiting.cancel()
            if snapshot.usable():
                self._good = True
                self._end(f"{len(snapshot.usable())} endpoints are known")
                self._watcher.updated(snapshot)
                self._keep(snapshot)
                return
            fixed = self._fixed or self._annotated(snapshot)
            if fixed:
                reason = "the service has no endpoint that can be used"
                self._begin(replace(snapshot, endpoints=fixed), "fixed endpoints", reason)
            else:
                self._end("the service has no endpoint, and nothing stands in")
                self._watcher.updated(snapshot)

    def failed(self, reason: str) -> None:
        """See ``Watcher``."""
        with self._inside():
            if self._closed:
                return
            if self._waiting is not None:
                self._waiting.cancel()
            if not self._good and not self._active and self._stand_in(reason):
                return
            self._watcher.failed(reason)

    def _silent(self) -> None:
        with self._inside():
            if not self._closed and not self._good and not self._active:
                self._stand_in(f"no answer from the control plane within {_PATIENCE_S:g} s")

    def _stand_in(self, reason: str) -> bool:
        found = None if self._file is None else self._file.load()
        if found is not None:
            snapshot, age = found
            what = f"the last good list, {len(snapshot.endpoints)} endpoints, {age:.0f} s old"
            self._begin(snapshot, what, reason)
        elif self._fixed:
            self._begin(Snapshot(self._service, self._fixed), "fixed endpoints", reason)
        return bool(self._active)

    def _annotated(self, snapshot: Snapshot) -> tuple[Endpoint, ...]:
        """What the Service itself names."""
        where = dict(snapshot.policy.params).get(PARAM) if snapshot.policy else None
        if not isinstance(where, str):
            return ()
        try:
            return snapshot_of(self._service, [where]).endpoints
        except ConfigError as error:
            _log.warning("%s: the fallback of its annotation is not used: %s", self._service, error)
            return ()

    def _begin(self, snapshot: Snapshot, what: str, reason: str) -> None:
        if not self._active:
            _count(self._service, 1)
            _log.warning("%s: fallback begins: %s; %s", self._service, what, reason)
        self._active = what
        self._watcher.updated(snapshot)

    def _end(self, why: str) -> None:
        active, self._active = self._active, ""
        if active:
            _count(self._service, -1)
            if why:
                _log.warning("%s: fallback ends: %s", self._service, why)

    # The file; written on a thread of its own, after a moment without changes.

    def _keep(self, snapshot: Snapshot) -> None:
        if self._file is not None:
            self._to_save = snapshot
            if self._saving is None:
                self._saving = _after(_SAVE_AFTER_S, self._save)

    def _save(self) -> None:
        with self._inside():
            snapshot, self._to_save, self._saving = self._to_save, None, None
        if snapshot is not None and self._file is not None and not self._closed:
            self._file.save(snapshot)


def _count(service: str, by: int) -> None:
    """Never waits: a finaliser may come in between. Who is at it counts what came meanwhile, too."""
    _changes.append((service, by))
    while _changes and _counting.acquire(blocking=False):
        try:
            while _changes:
                which, change = _changes.popleft()
                now = COUNTERS.get("trimtab_client_fallback", which) + change
                COUNTERS.set("trimtab_client_fallback", now, which)
                if change > 0:
                    COUNTERS.add("trimtab_client_fallbacks_total", which)
        finally:
            _counting.release()


def _after(seconds: float, act: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.name = "trimtab-fallback"
    timer.start()
    return timer
