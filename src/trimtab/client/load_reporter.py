"""When this process reports its load to the control plane, and what: decisions, no I/O.

It reports only to control planes of trimtab's own kind, which their Clusters show; it does so over
the connection of the subscription, on a stream beside it. ``subscription.py`` performs what
``poll`` returns. Times are monotonic seconds and arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from trimtab.backoff import HEALTHY_S, Backoff
from trimtab.errors import ProtocolError
from trimtab.xds.client_loads import Counts, LoadReports, Place
from trimtab.xds.client_session import NodeInfo

_SPREAD = 0.1  # so that clients which connected together don't report together
_UNIMPLEMENTED = "UNIMPLEMENTED"


@dataclass(frozen=True, slots=True)
class OpenLoads:
    """Open a stream of load reports over the connection of this subscription stream."""

    stream: int
    hello: bytes


@dataclass(frozen=True, slots=True)
class SendLoads:
    """Write a report."""

    stream: int
    report: bytes


@dataclass(frozen=True, slots=True)
class CloseLoads:
    """Close it; nothing it still says counts."""

    stream: int


class Source(Protocol):
    """Who has something to report."""

    @property
    def gone(self) -> bool:
        """Whether it never will have again."""

    def take(self) -> Iterable[tuple[Place, Counts]]:
        """What happened since the last time."""


class LoadReporter:
    """The load reports of one bootstrap.

    Args:
        node: who reports.
        random: for jitter.
    """

    def __init__(self, node: NodeInfo, random: Random) -> None:
        self._node = node
        self._random = random
        self._backoff = Backoff(random)
        self._sources: list[Source] = []
        self._final: dict[Place, Counts] = {}  # of channels that were closed since the last report
        self._stream: int | None = None
        self._reports: LoadReports | None = None  # None while no stream is open
        self._opened = 0.0
        self._reported = 0.0
        self._due: float | None = None

    def add(self, source: Source) -> None:
        """A channel was made."""
        self._sources.append(source)

    def remove(self, source: Source) -> None:
        """A channel was closed; what it did since the last report is reported still."""
        if source in self._sources:
            self._sources.remove(source)
            if self._reports is not None:
                _merge(self._final, source.take(), in_flight=False)

    def begin(self, stream: int, now: float) -> None:
        """A control plane that takes reports answers on this stream."""
        if stream != self._stream:
            self._stream = stream
            self._reports = None
            self._due = now

    def lost(self, stream: int) -> None:
        """The subscription's stream has ended, and its connection with it."""
        if stream == self._stream:
            self._stream = self._reports = self._due = None

    def received(self, stream: int, response: bytes, now: float) -> list[CloseLoads]:
        """The control plane says what it wants to know."""
        if stream != self._stream or self._reports is None:
            return []
        try:
            first = self._reports.interval_s is None
            self._reports.receive(response)
        except ProtocolError:
            self._retry(now)
            return [CloseLoads(stream)]
        if first:
            self._collect()  # what was before nobody asked for
            self._final.clear()
            self._reported = now
        self._due = self._next(self._reported)
        return []

    def closed(self, stream: int, error: str, now: float) -> None:
        """The stream of reports has ended. ``error`` is gRPC's text."""
        if stream != self._stream or self._reports is None:
            return
        if error.startswith(_UNIMPLEMENTED):
            self._reports = self._due = None  # an older control plane: not asked again
            return
        if now - self._opened >= HEALTHY_S:
            self._backoff.reset()
        self._retry(now)

    def poll(self, now: float) -> Sequence[OpenLoads | SendLoads]:
        """What is to be done now."""
        if self._stream is None or self._due is None or now < self._due:
            return []
        if self._reports is None:
            self._reports = LoadReports(self._node)
            self._opened = now
            self._due = None  # until the control plane says what it wants
            return [OpenLoads(self._stream, self._reports.hello())]
        stream, interval_s = self._stream, now - self._reported
        self._reported = now
        self._due = self._next(now)
        return [
            SendLoads(stream, message)
            for message in self._reports.report(self._collect(), interval_s)
        ]

    def wakes_at(self) -> float | None:
        """When ``poll`` has something to do if nothing happens before; None for never."""
        return self._due

    def _retry(self, now: float) -> None:
        self._reports = None
        self._due = now + self._backoff.next()

    def _next(self, since: float) -> float | None:
        interval_s = None if self._reports is None else self._reports.interval_s
        if interval_s is None:
            return None
        return since + interval_s * self._random.uniform(1 - _SPREAD, 1 + _SPREAD)

    def _collect(self) -> dict[Place, Counts]:
        counts, self._final = self._final, {}
        self._sources = [source for source in self._sources if not source.gone]
        for source in self._sources:
            _merge(counts, source.take(), in_flight=True)
        return counts


def _merge(
    into: dict[Place, Counts], taken: Iterable[tuple[Place, Counts]], *, in_flight: bool
) -> None:
    for place, counts in taken:
        if not in_flight:
            counts.in_flight = 0  # nobody will say how they end
        into.setdefault(place, Counts()).add(counts)
