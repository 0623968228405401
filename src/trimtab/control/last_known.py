"""Keeps the state file up to date, and says what it held at the start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from trimtab.control import metrics
from trimtab.control.logs import printable
from trimtab.control.state_file import Saved, State, StateError, read_state, write_state
from trimtab.control.store import Store
from trimtab.control.verdicts import Verdicts
from trimtab.discovery.addresses import AddressRules, Network, endpoint_address
from trimtab.discovery.pause import pause
from trimtab.model import Endpoint, Snapshot
from trimtab.telemetry import Counters

_LOG = logging.getLogger(__name__)

WRITE_S = 10.0
RENEW_S = 60.0


@dataclass(frozen=True, slots=True)
class StateOptions:
    """What ``trimtab serve`` is told of its state file.

    Attributes:
        file: where it is; None: there is none.
        max_age_s: what is older is not believed.
        after_s: how long sources may take at the start before it is used in their place.
        ranges: no endpoint outside of these is believed, whatever was allowed when it was written;
            none: no such limit.
    """

    file: Path | None = None
    max_age_s: float = 86_400.0
    after_s: float = 5.0
    ranges: tuple[Network, ...] = ()


class LastKnown:
    """See the module.

    Args:
        options: where, and how long it is good.
        store: whose state.
        verdicts: what is remembered of clients' tokens.
        audience: what these are issued for; "" if clients bring none.
        counters: what is counted.
        wall: Unix seconds.
        write_s: how often a changed state is written [s].
        renew_s: and one that is the same, so that it stays young while it is true.
    """

    def __init__(
        self,
        options: StateOptions,
        store: Store,
        verdicts: Verdicts,
        counters: Counters,
        *,
        audience: str = "",
        wall: Callable[[], float],
        write_s: float = WRITE_S,
        renew_s: float = RENEW_S,
    ) -> None:
        self._options = options
        self._store = store
        self._verdicts = verdicts
        self._audience = audience
        self._counters = counters
        self._wall = wall
        self._write_s = write_s
        self._renew_s = renew_s
        self._written: tuple[object, float] | None = None
        self._heard: dict[str, float] = {}  # when each source was certain last [Unix seconds]
        self._loaded: dict[str, Mapping[str, Snapshot]] = {}  # of sources that are not certain yet
        self._failure = ""

    def load(self) -> Saved:
        """What the file holds of the sources; nothing if there is none that can be used.

        Its verdicts on tokens go to ``verdicts``, if they were given for the same audience.
        """
        if self._options.file is None:
            return {}
        try:
            state = read_state(self._options.file, self._wall(), self._options.max_age_s)
        except StateError as error:
            _LOG.error("%s (the start goes on without it)", printable(str(error), limit=1000))
            return {}
        if state is None:
            return {}
        if state.audience == self._audience:
            self._verdicts.restore(state.verdicts)
        for refused in state.refused:
            text = printable(refused, limit=1000)
            _LOG.error("state file %s: %s (the start goes on without it)", self._options.file, text)
        self._heard.update(state.heard)
        self._loaded.update(self._allowed(state.sources))
        return dict(self._loaded)

    def _allowed(self, saved: Saved) -> Saved:
        """Without the endpoints that no source would be believed, either.

        A cluster that loses all of them is left out: it is unknown, not empty.
        """
        ranges = self._options.ranges
        rules = AddressRules(allow_loopback=not ranges, ranges=ranges)
        refused: list[str] = []

        def look(snapshot: Snapshot) -> Snapshot | None:
            found = tuple(kept for e in snapshot.endpoints if (kept := allowed(e, snapshot)))
            if found == snapshot.endpoints:
                return snapshot
            return replace(snapshot, endpoints=found) if found else None

        def allowed(endpoint: Endpoint, snapshot: Snapshot) -> Endpoint | None:
            if not may(endpoint.address, snapshot):
                return None
            others = tuple(a for a in endpoint.additional_addresses if may(a, snapshot))
            if others == endpoint.additional_addresses:
                return endpoint
            return replace(endpoint, additional_addresses=others)

        def may(address: str, snapshot: Snapshot) -> bool:
            try:
                endpoint_address(address, 6 if ":" in address else 4, rules)
            except ValueError as error:
                refused.append(f"{address} of {snapshot.cluster}: {error}")
                return False
            return True

        found = {
            source: {
                name: kept for name, one in clusters.items() if (kept := look(one)) is not None
            }
            for source, clusters in saved.items()
        }
        if refused:
            _LOG.warning(
                "state file %s: %d addresses are not used: %s%s",
                self._options.file,
                len(refused),
                printable(refused[0], limit=1000),
                " (the first of them)" if len(refused) > 1 else "",
            )
        return found

    async def keep(self) -> None:
        """Write the file whenever there is something new, for ever."""
        if self._options.file is None:
            return
        while True:
            await pause(self._write_s)
            await self.write()

    async def write(self) -> None:
        """Write it now, if anything is certain and the file is not what it should be.

        Of a source that is not, what the file has stays, and gets old. So does what a source said last while it can't
        be read, whatever comes with others or with tokens.
        """
        path, store = self._options.file, self._store
        certain = [source for source in store.sources if source.certain]
        if path is None or not certain:
            return
        now = self._wall()
        read = [source.name for source in certain if not source.out_of_contact]
        revisions = (store.revision, self._verdicts.revision, tuple(s.name for s in certain))
        if self._written is not None:
            written, when = self._written
            # A clock that was set back makes the file one of the future: write it anew.
            if written == revisions and (not read or 0 <= now - when < self._renew_s):
                return
        for source in certain:
            self._loaded.pop(source.name, None)
            self._heard.setdefault(source.name, now)
        self._heard.update(dict.fromkeys(read, now))
        sources = {
            s.name: dict(s.snapshots) if s.certain else self._loaded[s.name]
            for s in store.sources
            if s.certain or s.name in self._loaded
        }
        state = State(sources, self._audience, tuple(self._verdicts.saved()), dict(self._heard))
        try:
            await asyncio.to_thread(write_state, path, state, now)
        except OSError as error:
            self._counters.add(metrics.STATE_WRITES, "failed")
            text = f"{type(error).__name__}: {error.strerror or error}"
            if text != self._failure:
                self._failure = text
                _LOG.error(
                    "state file %s can't be written (%s); the old one stays, and gets old; its directory must "
                    "exist and be writable for this user (in a pod: a volume)",
                    path,
                    text,
                )
            return
        self._counters.add(metrics.STATE_WRITES, "written")
        self._written = (revisions, now)
        if self._failure:
            _LOG.info("state file %s is written again", path)
            self._failure = ""
