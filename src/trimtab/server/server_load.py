"""What a server says of its load: the one object that interceptors, middleware and streams share."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from threading import Lock
from typing import NamedTuple

from trimtab.load_codec import BINARY_HEADER, HEADER, IN_FLIGHT, LATENCY, encode
from trimtab.load_report import LoadReport
from trimtab.server.load_meter import LoadMeter
from trimtab.server.orca import check_name, check_value, encode_binary
from trimtab.server.rates import RateMeter

_log = logging.getLogger("trimtab.server")

SAMPLE_EVERY_S = 0.1  # utilisation, rates and named metrics
# How long the latency to expect at some number in flight is taken for the same: a busy server would
# work it out for most responses, which costs more than all the rest, for a change of nobody's choice.
FRESH_S = 0.05
_QUEUE = "queue"
_MOST_KEPT = 1024

Signal = Callable[[], float]


class Said(NamedTuple):
    """One report, as it goes out.

    Attributes:
        text: the value of the header ``endpoint-load-metrics``.
        binary: a serialised ``OrcaLoadReport``.
        trailers: both, as gRPC's trailing metadata.
    """

    text: str
    binary: bytes
    trailers: tuple[tuple[str, str | bytes], ...]


class ServerLoad:
    """A server's load. May be used from several threads, and by several servers of one process.

    In-flight and the latency to expect are always said. Native gRPC's and Envoy's weighted round
    robin want a utilisation besides: servers that don't say one get equal shares.

    Args:
        utilization: how full the application is: 0 idle, 1 full, more than 1 overfull. Called at
            most ten times a second. With it go the rates of requests and errors, which the
            weighted policies divide by it.
        cpu_utilization: the same of the processor, for example ``CpuUtilization()``. The weighted
            policies take it where ``utilization`` is not given.
        queue: requests that wait before they are worked on. Called for each response, so it
            should be as quick as ``queue.Queue.qsize``.
        named: other metrics by name, each called at most ten times a second.
        clock: seconds, monotonic.

    A signal that raises, or says something that is no finite number from 0 on, is left out of the
    report and logged, once until it is well again.

    Raises:
        ValueError: a name that can't be written, or that is taken.
    """

    def __init__(
        self,
        *,
        utilization: Signal | None = None,
        cpu_utilization: Signal | None = None,
        queue: Signal | None = None,
        named: Mapping[str, Signal] | None = None,
        clock: Callable[[], float] = time.monotonic,  # noqa: TID251 - the door's clock
    ) -> None:
        named = named or {}
        for name in named:
            if check_name(name) in {IN_FLIGHT, LATENCY, _QUEUE}:
                raise ValueError(f"metric name {name!r} is said already; use another")
        self.clock = clock
        self._lock = Lock()
        self._meter = LoadMeter()
        weighted = utilization is not None or cpu_utilization is not None
        self._rates = RateMeter(clock()) if weighted else None
        self._queue = queue
        self._fields = {
            name: signal
            for name, signal in (
                ("application_utilization", utilization),
                ("cpu_utilization", cpu_utilization),
            )
            if signal is not None
        }
        self._named = dict(named)
        self._field_values: dict[str, float] = {}
        self._named_values: dict[str, float] = {}
        self._due = clock()
        self._stale_at = clock()
        self._lately: dict[tuple[int, float | None], Said] = {}  # by in-flight and queue
        self._ill: set[str] = set()
        self._kept: dict[tuple[int, str | None, float | None], Said] = {}
        self._totals = (0, 0)  # replaced as one: it is read without the lock
        self._left: deque[tuple[int, bool]] = deque()  # given up, and not counted yet

    @property
    def in_flight(self) -> int:
        """Requests that are here now."""
        self._count_left()
        return self._meter.in_flight

    def begin(self) -> int:
        """A request came. Returns what ``end`` wants back."""
        meter = self._meter
        with self._lock:
            if self._left:
                self._settle()
            found = meter.in_flight
            meter.in_flight = found + 1
        return found

    def end(self, found: int, seconds: float | None, *, failed: bool = False) -> Said:
        """A request ended; to be called once for each ``begin``.

        Args:
            found: what ``begin`` returned.
            seconds: how long it took; None if that tells nothing of the next one (a stream).
            failed: it failed for a reason of the server's.

        Returns:
            The load without this request.
        """
        with self._lock:
            if self._left:
                self._settle()
            meter = self._meter
            self._end(found, seconds, failed=failed)
            now = self.clock()
            said = self._lately.get((meter.in_flight, None)) if now < self._stale_at else None
            return said or self._report(meter.in_flight, now)

    def give_up(self, found: int, *, failed: bool = False) -> None:
        """As ``end``, of a request whose generator or coroutine is closed. Never waits.

        It may be garbage, and that is collected anywhere: also where this very thread holds the lock.
        """
        self._left.append((found, failed))
        self._count_left()

    def _count_left(self) -> None:
        """Count those that were given up, unless somebody is at it, who may be interrupted by this."""
        while self._left and self._lock.acquire(blocking=False):
            try:
                self._settle()
            finally:
                self._lock.release()

    def _settle(self) -> None:
        while self._left:
            found, failed = self._left.popleft()
            self._end(found, None, failed=failed)

    def _end(self, found: int, seconds: float | None, *, failed: bool) -> None:
        if seconds is None or failed:
            self._meter.end(found, 0.0, counts=False)
        else:
            self._meter.end(found, seconds)
        if self._rates is not None:
            self._rates.count(failed=failed)
        ended, had_failed = self._totals
        self._totals = (ended + 1, had_failed + failed)

    def totals(self) -> tuple[int, int]:
        """How many requests ended, and failed for a reason of the server's, since the start.

        Takes no lock: a signal, which is asked under it, may ask for this.
        """
        self._count_left()
        return self._totals

    def report(self, *, without: int = 0) -> Said:
        """The load now, ``without`` so many of the requests that are here."""
        self._count_left()
        with self._lock:
            return self._report(self._meter.in_flight - without, self.clock())

    def _report(self, in_flight: int, now: float) -> Said:
        if now >= self._stale_at:
            self._stale_at = now + FRESH_S
            self._lately.clear()
            if now >= self._due:
                self._due = now + SAMPLE_EVERY_S
                self._sample(now)
        queue = None if self._queue is None else self._read(_QUEUE, self._queue)
        said = self._lately.get((in_flight, queue))
        if said is None:
            said = self._lately[in_flight, queue] = self._find(in_flight, queue)
        return said

    def _find(self, in_flight: int, queue: float | None) -> Said:
        latency = self._meter.latency
        # Two digits are what it is good for, and few different reports are made of them.
        rounded = None if latency is None else f"{latency:.2g}"
        key = (in_flight, rounded, queue)
        said = self._kept.get(key)
        if said is None:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            said = self._kept[key] = self._write(*key)
        return said

    def _write(self, in_flight: int, latency: str | None, queue: float | None) -> Said:
        rates = self._rates
        report = LoadReport(
            rps=rates.requests if rates else 0.0,
            eps=rates.errors if rates else 0.0,
            in_flight=in_flight,
            latency=None if latency is None else float(latency),
            **self._field_values,
        )
        named = self._named_values if queue is None else {_QUEUE: queue, **self._named_values}
        text, binary = encode(report, named), encode_binary(report, named)
        return Said(text, binary, ((HEADER, text), (BINARY_HEADER, binary)))

    def _sample(self, now: float) -> None:
        if self._rates is not None:
            self._rates.sample(now)
        elif not self._named:
            return
        self._field_values = self._read_all(self._fields)
        self._named_values = self._read_all(self._named)
        self._kept.clear()

    def _read_all(self, signals: Mapping[str, Signal]) -> dict[str, float]:
        read = {name: self._read(name, signal) for name, signal in signals.items()}
        return {name: value for name, value in read.items() if value is not None}

    def _read(self, name: str, signal: Signal) -> float | None:
        try:
            value = check_value(name, signal())
        except Exception as problem:  # noqa: BLE001 - a user's function must not fail a request
            if name not in self._ill:
                self._ill.add(name)
                _log.warning("load reports leave %s out: %s", name, problem)
            return None
        self._ill.discard(name)
        return value
