"""Which client of how many this one is, so that subsets of a large cluster come out even.

The control plane tells who else there is: the ready pods of the client's own Service, which is a cluster
like any other. Sorted by address they give each pod the same list, and its own place in it. Whoever doesn't
know its Service (``TRIMTAB_SERVICE``) or its address (``POD_IP``), or isn't ready, draws its subset instead
(rendezvous). Nobody is asked for as long as the policy wants no subset.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

from trimtab.client.watching import Watch, Watcher
from trimtab.model import Health, PolicyConfig, Snapshot


def wants_seat(policy: PolicyConfig | None) -> bool:
    """Whether the policy uses a subset, and doesn't say which."""
    given = dict(policy.params) if policy else {}
    size, index = given.get("subset_size", 0), given.get("subset_index", -1)
    return size not in {0, "0"} and index in {-1, "-1"}


def seat_in(snapshot: Snapshot, address: str) -> tuple[int, int] | None:
    """Which of the ready pods has this address, from 0, and how many there are; None: it isn't there."""
    ready = sorted({e.address for e in snapshot.endpoints if e.health is Health.READY})
    return (ready.index(address), len(ready)) if address in ready else None


class Seated:
    """Stands between a watch and who is told: adds the client's place to each snapshot.

    Args:
        watcher: who is told.
        service: the client's own, as the control plane is asked for it.
        address: the client's own.
        policy: the caller's; None: the control plane's counts.
    """

    def __init__(
        self, watcher: Watcher, service: str, address: str, policy: PolicyConfig | None
    ) -> None:
        self._watcher = watcher
        self._service = service
        self._address = address
        self._policy = policy
        self._lock = threading.RLock()
        self._watch: Callable[[str, Watcher], Watch] | None = None
        self._main: Watch | None = None
        self._peers: Watch | None = None
        self._last: Snapshot | None = None
        self._seat: tuple[int, int] | None = None
        self._closed = False

    def start(self, name: str, watch: Callable[[str, Watcher], Watch]) -> None:
        """Begin to watch ``name``."""
        self._watch = watch
        self._main = watch(name, self)

    @property
    def origin(self) -> str:
        """See ``Watch``."""
        return self._main.origin if self._main is not None else ""

    def close(self) -> None:
        """See ``Watch``. Takes no lock: a finaliser may hold what a thread that does waits for."""
        self._closed = True
        for watch in (self._main, self._peers):
            if watch is not None:
                watch.close()

    def updated(self, snapshot: Snapshot) -> None:
        """See ``Watcher``."""
        with self._lock:
            if self._closed:
                return
            self._last = snapshot
            wanted = wants_seat(self._policy or snapshot.policy)
            if wanted and self._peers is None and self._watch is not None:
                self._ask_for_peers(self._watch)
            elif not wanted and self._peers is not None:
                self._peers.close()
                self._peers = self._seat = None
            self._watcher.updated(replace(snapshot, seat=self._seat))

    def _ask_for_peers(self, watch: Callable[[str, Watcher], Watch]) -> None:
        self._peers = watch(self._service, _Peers(self))
        if self._closed:  # meanwhile, by who may not have seen it
            self._peers.close()

    def failed(self, reason: str) -> None:
        """See ``Watcher``."""
        self._watcher.failed(reason)

    def peers(self, snapshot: Snapshot | None) -> None:
        """Who the clients are now; None: nobody can say, so the last word counts."""
        with self._lock:
            if self._closed or self._peers is None or snapshot is None:
                return
            seat = seat_in(snapshot, self._address)
            if seat != self._seat and self._last is not None:
                self._seat = seat
                self._watcher.updated(replace(self._last, seat=seat))


class _Peers:
    """Hears of the client's own Service."""

    def __init__(self, seated: Seated) -> None:
        self._seated = seated

    def updated(self, snapshot: Snapshot) -> None:
        self._seated.peers(snapshot)

    def failed(self, _reason: str) -> None:
        self._seated.peers(None)


def own_place(
    cluster: str, metadata: Mapping[str, object], environ: Mapping[str, str]
) -> tuple[str, str]:
    """The client's Service and address, each "" if it doesn't know.

    Args:
        cluster: of the bootstrap's node.
        metadata: of the bootstrap's node; ``pod_ip`` goes before the environment.
        environ: ``TRIMTAB_POD_IP`` or ``POD_IP``.
    """
    told = metadata.get("pod_ip")
    address = told if isinstance(told, str) else ""
    return cluster, address or environ.get("TRIMTAB_POD_IP") or environ.get("POD_IP") or ""
