"""The channels and HTTP clients of this process that are open, and what closed ones have done."""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter, deque

from trimtab.balancer import Balancer
from trimtab.client.watching import Closable

_lock = threading.Lock()
_open: weakref.WeakSet[Balancer] = weakref.WeakSet()
MOST_PASTS = 1000
"""Services without an open channel of which what closed ones did is kept: those that closed one last."""
_past: dict[str, Past] = {}  # who closed last stands last
# A channel that is dropped closes wherever garbage is collected, so also where the lock is held.
_closing: deque[Balancer] = deque()


class Past:
    """What the closed channels of one service did. It stays while others are open: counters must not go back.

    Attributes:
        zones: requests by zone of the endpoint.
        crossings: the same by whether they left the client's zone (``ZoneCrossings``).
        connects: connections that came about.
        disconnects: connections that were lost or closed.
        endpoints: requests, errors and seconds by endpoint, of those that an open channel has, too.
        shown: the same as somebody was told last, likewise.
    """

    def __init__(self) -> None:
        self.zones: Counter[str] = Counter()
        self.crossings: Counter[str] = Counter()
        self.connects = 0
        self.disconnects = 0
        self.endpoints: dict[str, tuple[int, int, float]] = {}
        self.shown: dict[str, tuple[float, float, float]] = {}

    def add(self, balancer: Balancer) -> None:
        """A channel closes."""
        self.zones.update(balancer.zone_picks)
        self.crossings.update(balancer.zone_crossings)
        if balancer.tells_connections:
            self.connects += balancer.connects
            self.disconnects += balancer.connects  # those that are open go with the channel
        for node in balancer.nodes.values():
            requests, errors, seconds = self.endpoints.get(node.endpoint.target, (0, 0, 0.0))
            done = (requests + node.picks, errors + node.errors, seconds + node.seconds)
            self.endpoints[node.endpoint.target] = done

    def keep(self, targets: set[str]) -> None:
        """Forget all other endpoints: else there would be more and more of them."""
        self.endpoints = {t: done for t, done in self.endpoints.items() if t in targets}
        self.shown = {t: done for t, done in self.shown.items() if t in targets}


class Listed:
    """Lists a channel until it is closed, and closes ``inner`` with it.

    Args:
        balancer: of the channel; not kept alive.
        inner: what ends with the channel.
    """

    def __init__(self, balancer: Balancer, inner: Closable) -> None:
        self._balancer = weakref.ref(balancer)
        self._inner = inner
        with _lock:
            _open.add(balancer)

    def close(self) -> None:
        """List it no more. Idempotent, from any thread, never blocks; safe in finalisers."""
        balancer = self._balancer()
        if balancer is not None:
            _closing.append(balancer)
            if _lock.acquire(blocking=False):
                try:
                    _settle()
                finally:
                    _lock.release()
        self._inner.close()


def _settle() -> None:
    """Count the channels that have closed; the caller holds the lock, and whoever reads calls this first."""
    while _closing:
        balancer = _closing.popleft()
        if balancer in _open:
            _open.discard(balancer)
            past = _past.pop(balancer.cluster) if balancer.cluster in _past else Past()
            _past[balancer.cluster] = past
            past.add(balancer)
            past.keep(_targets_of(balancer.cluster))
            if len(_past) > MOST_PASTS:
                _forget()


def _forget() -> None:
    """Where hosts are strangers' choice, services come and go without end; ``_settle``'s business."""
    live = {balancer.cluster for balancer in _open}
    closed = [service for service in _past if service not in live]
    for service in closed[: max(0, len(closed) - MOST_PASTS)]:
        del _past[service]


def _targets_of(service: str) -> set[str]:
    return {
        node.endpoint.target
        for balancer in _open
        if balancer.cluster == service
        for node in list(balancer.nodes.values())
    }


def open_channels() -> list[Balancer]:
    """By the services' names."""
    with _lock:
        _settle()
        return sorted(_open, key=lambda each: each.cluster)


def past_of(service: str) -> Past:
    """Of one service; an empty one if none of its channels has closed."""
    with _lock:
        _settle()
        return _past.setdefault(service, Past())


def pasts() -> dict[str, Past]:
    """By service: what its closed channels did."""
    with _lock:
        _settle()
        return dict(_past)


def _in_child() -> None:
    """What there is belongs to the parent, who counts it; the child's own series begin with its channels."""
    _open.clear()
    _past.clear()
    _closing.clear()
    _lock.release()


# Held across the fork: a thread that the child doesn't have could hold it there for ever.
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_in_child)
