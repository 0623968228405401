"""What servers say of their own load, for the Services that ask for it: by endpoint, the latest report.

Whoever their clients are, and however many replicas read it, a server says the same. No decision is
made by it.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from trimtab.control import metrics
from trimtab.load_report import LoadReport
from trimtab.model import Endpoint
from trimtab.telemetry import Counters
from trimtab.xds.catalog import Catalog

_LOG = logging.getLogger(__name__)

MAX_ROWS = 20_000
_GAUGES = (
    metrics.SERVER_REQUESTS,
    metrics.SERVER_ERRORS,
    metrics.SERVER_IN_FLIGHT,
    metrics.SERVER_UTILIZATION,
)
READING, FAILING, UNREAD, WAITING = "reading", "failing", "unread", "waiting"


class ServerLoads:
    """The reports that one replica has.

    Args:
        catalog: what exists.
        counters: gets the latest figures.
        clock: loop time [s].

    Attributes:
        fresh_s: how long a report counts [s].
        tells_reasons: pages and metrics say why an endpoint can't be read. Where anybody may read
            them they must not: who may write an EndpointSlice chooses where the control plane
            connects, and would learn which ports are open there.
    """

    def __init__(self, catalog: Catalog, counters: Counters, clock: Callable[[], float]) -> None:
        self.fresh_s = 90.0
        self.tells_reasons = True
        self._catalog = catalog
        self._counters = counters
        self._clock = clock
        self._reports: dict[str, tuple[LoadReport, float]] = {}
        self._failures: dict[str, str] = {}
        self._wanted: Mapping[str, str] = {}
        self._unread = 0

    def wanted(self, most: int) -> Mapping[str, str]:
        """The endpoints to read, by address, with the name that their certificate is to have.

        Args:
            most: of how many. Where that is too few for all, a Service's turn comes the sooner, the
                less its namespace has by then: nobody's names, size or number of Services keep
                another's out. One that would be read only to half or less, of which nothing could
                be said, is left out.
        """
        found: dict[str, str] = {}
        unread: set[str] = set()
        for cluster in self._in_turn():
            snapshot = self._catalog.clusters()[cluster]
            service = snapshot.service
            name = f"{service.service}.{service.namespace}.svc" if service else ""
            targets = list(dict.fromkeys(e.target for e in snapshot.usable()))
            missing = [target for target in targets if target not in found]
            chosen = missing[: max(0, most - len(found))]
            read = len(targets) - len(missing) + len(chosen)
            if _too_few(read, len(targets)):
                chosen = []
            found.update(dict.fromkeys(chosen, name))
            unread.update(missing[len(chosen) :])
        for gone in [target for target in self._reports if target not in found]:
            del self._reports[gone]
        for gone in [target for target in self._failures if target not in found]:
            del self._failures[gone]
        self._wanted, self._unread = found, len(unread - found.keys())
        return found

    def _in_turn(self) -> list[str]:
        """Clusters that ask, by how many endpoints their namespace has with them, the smaller first.

        By powers of two, then by name, so that an endpoint that comes or goes rarely changes whose
        turn it is; and by nothing that another replica would see otherwise.
        """
        clusters = self._catalog.clusters()
        sizes = {cluster: len(clusters[cluster].usable()) for cluster in self._asking()}
        taken: dict[str, int] = defaultdict(int)
        turns: list[tuple[int, str]] = []
        for cluster in sorted(sizes, key=lambda c: (sizes[c].bit_length(), c)):
            service = clusters[cluster].service
            namespace = service.namespace if service else ""
            taken[namespace] += sizes[cluster]
            turns.append((taken[namespace].bit_length(), cluster))
        return [cluster for _, cluster in sorted(turns)]

    def take(self, target: str, report: LoadReport) -> None:
        """An endpoint has reported."""
        if target in self._wanted:
            self._failures.pop(target, None)
            self._reports[target] = (report, self._clock())

    def lose(self, target: str, reason: str) -> None:
        """An endpoint can't be read: what it said last says nothing of now."""
        _LOG.debug("load reports of %s can't be read: %s", target, reason)
        self._counters.add(metrics.SERVER_FAILURES, reason if self.tells_reasons else FAILING)
        self._reports.pop(target, None)
        if target in self._wanted:
            self._failures[target] = reason

    def of(self, cluster: str) -> dict[str, LoadReport] | None:
        """The latest reports by address, if more than half of the usable endpoints have one.

        Of fewer nothing could be said of the whole.
        """
        if not self._asks(cluster):
            return None
        usable = self._catalog.clusters()[cluster].usable()
        found = {e.target: report for e in usable if (report := self._fresh(e.target))}
        return None if _too_few(len(found), len(usable)) else found

    def measure(self) -> None:
        """Bring the metrics up to date, before they are read."""
        counters = self._counters
        for name in _GAUGES:
            counters.clear(name)
        reading = sum(self._fresh(target) is not None for target in self._wanted)
        counters.set(metrics.SERVER_STREAMS, reading, READING)
        counters.set(metrics.SERVER_STREAMS, len(self._wanted) - reading, FAILING)
        counters.set(metrics.SERVER_STREAMS, self._unread, UNREAD)
        left = MAX_ROWS
        for cluster in self._asking():
            said = self.of(cluster) or {}
            for endpoint, report in self._rows(cluster):
                if report is None or endpoint.target not in said or left <= 0:
                    continue
                left -= 1
                labels = (cluster, endpoint.locality.zone, endpoint.target)
                counters.set(metrics.SERVER_REQUESTS, report.rps, *labels)
                counters.set(metrics.SERVER_ERRORS, report.eps, *labels)
                if report.in_flight is not None:
                    counters.set(metrics.SERVER_IN_FLIGHT, report.in_flight, *labels)
                counters.set(metrics.SERVER_UTILIZATION, _utilization(report), *labels)

    def view(self, cluster: str) -> list[dict[str, Any]]:
        """Each usable endpoint of a cluster that asks: JSON values for the admin pages."""
        return [
            {
                "zone": endpoint.locality.zone,
                "endpoint": endpoint.target,
                "requests_per_second": report.rps if report else None,
                "errors_per_second": report.eps if report else None,
                "in_flight": report.in_flight if report else None,
                "latency_seconds": report.latency if report else None,
                "utilization": _utilization(report) if report else None,
                "state": self._state(endpoint.target, report),
            }
            for endpoint, report in self._rows(cluster)
        ]

    def _state(self, target: str, report: LoadReport | None) -> str:
        if report:
            return READING
        return self._failures.get(target, WAITING) if self.tells_reasons else FAILING

    def clusters(self) -> frozenset[str]:
        """Those that have a report."""
        return frozenset(c for c in self._asking() if any(report for _, report in self._rows(c)))

    def _rows(self, cluster: str) -> Iterator[tuple[Endpoint, LoadReport | None]]:
        if self._asks(cluster):
            for endpoint in self._catalog.clusters()[cluster].usable():
                yield endpoint, self._fresh(endpoint.target)

    def _asking(self) -> Iterator[str]:
        return (cluster for cluster in self._catalog.clusters() if self._asks(cluster))

    def _asks(self, cluster: str) -> bool:
        snapshot = self._catalog.clusters().get(cluster)
        service = snapshot.service if snapshot else None
        return service is not None and service.out_of_band

    def _fresh(self, target: str) -> LoadReport | None:
        report, at = self._reports.get(target, (None, 0.0))
        return report if self._clock() - at <= self.fresh_s else None


def _too_few(read: int, usable: int) -> bool:
    return 2 * read <= usable


def _utilization(report: LoadReport) -> float:
    return report.application_utilization or report.cpu_utilization
