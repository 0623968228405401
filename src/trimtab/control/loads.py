"""What clients say they do, added up: by cluster, endpoint, zone and kind of client.

Where servers say what they get (``server_loads``), theirs is the word for the whole.

Bounded by what exists: only endpoints and zones of known clusters are counted, and no more than
``MAX_ROWS`` of them. Nothing is kept per client.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from trimtab.control import metrics
from trimtab.control.server_loads import ServerLoads
from trimtab.model import Snapshot
from trimtab.telemetry import Counters
from trimtab.xds import type_urls
from trimtab.xds.catalog import Catalog, Client
from trimtab.xds.load_stats import Load, Senseless

MAX_ROWS = 20_000
WINDOW_S = 60.0
_SLICE_S = 5.0


class Row(NamedTuple):
    """What is counted apart.

    Attributes:
        cluster: the canonical name.
        zone: where.
        address: the endpoint; "" for clients that count per zone.
        kind: of the clients.
    """

    cluster: str
    zone: str
    address: str
    kind: str


class Rate(NamedTuple):
    """What one row came to over the last minute.

    Attributes:
        requests: per second.
        errors: per second.
        in_flight: on average.
        latency_s: mean over the requests that ended [s]; None where no client says.
    """

    requests: float
    errors: float
    in_flight: float
    latency_s: float | None


class _Sums:
    """Sums over one stretch of time; ``in_flight`` is a sum of rates of reports times seconds."""

    __slots__ = ("errors", "in_flight", "requests", "seconds", "timed")

    def __init__(self) -> None:
        self.requests = 0.0
        self.errors = 0.0
        self.in_flight = 0.0
        self.timed = 0.0
        self.seconds = 0.0

    def add(self, load: Load) -> None:
        self.requests += load.requests
        self.errors += load.errors
        # Each client says how many it has, once per interval: for so long it counts.
        self.in_flight += load.in_flight * load.interval_s
        self.timed += load.timed
        self.seconds += load.seconds

    def join(self, other: _Sums) -> None:
        """Add another stretch."""
        self.requests += other.requests
        self.errors += other.errors
        self.in_flight += other.in_flight
        self.timed += other.timed
        self.seconds += other.seconds

    @property
    def latency_s(self) -> float | None:
        """The mean, if anything was timed."""
        return self.seconds / self.timed if self.timed else None

    def over(self, span_s: float) -> Rate:
        """Per second."""
        return Rate(
            self.requests / span_s, self.errors / span_s, self.in_flight / span_s, self.latency_s
        )


@dataclass(slots=True)
class _Stretch:
    since: float
    rows: dict[Row, _Sums] = field(default_factory=dict)


class Loads:
    """The sums of one replica.

    Args:
        catalog: what exists, and who may know of it.
        counters: gets totals, evenness, and what was refused.
        clock: loop time [s].

    Attributes:
        servers: what servers say of themselves.
    """

    def __init__(self, catalog: Catalog, counters: Counters, clock: Callable[[], float]) -> None:
        self._catalog = catalog
        self._counters = counters
        self._clock = clock
        self.servers = ServerLoads(catalog, counters, clock)
        self._totals: dict[Row, _Sums] = {}
        self._first: dict[str, float] = {}  # by cluster: when the first report began
        self._stretches: deque[_Stretch] = deque()
        self._tidied = clock()
        # Of each cluster the addresses and zones, for the snapshot that they belong to.
        self._places: dict[str, tuple[Snapshot, Mapping[str, str], frozenset[str]]] = {}

    def take(self, client: Client, reported: Iterable[Load | Senseless]) -> None:
        """Add a client's report; what can't be true or is not its business is left out."""
        now = self._clock()
        for load in reported:
            reason = self._take(client, load, now)
            if reason:
                self._counters.add(metrics.LOADS_REFUSED, reason)

    def _take(self, client: Client, load: Load | Senseless, now: float) -> str:
        """Why a part was refused or changed; "" if it was taken as it is."""
        if isinstance(load, Senseless):
            return "interval"
        # What it may not see is refused exactly as what does not exist.
        cluster = self._catalog.concerns(type_urls.EDS, load.cluster, client)
        if cluster is None:
            return "unknown_cluster"
        zones, known = self._known(cluster)
        zone = zones.get(load.address, load.zone)
        if load.address and load.address not in zones:
            return "unknown_endpoint"
        if not load.address and load.zone not in known:
            return "unknown_zone"
        row = Row(cluster, zone, load.address, client.kind.value)
        if row not in self._totals and len(self._totals) >= MAX_ROWS:
            return "rows"
        self._totals.setdefault(row, _Sums()).add(load)
        self._first.setdefault(cluster, now - load.interval_s)
        self._present(now).rows.setdefault(row, _Sums()).add(load)
        return "clamped" if load.clamped else ""

    def _known(self, cluster: str) -> tuple[Mapping[str, str], frozenset[str]]:
        snapshot = self._catalog.clusters()[cluster]
        found = self._places.get(cluster)
        if found is None or found[0] is not snapshot:
            zones = {e.target: e.locality.zone for e in snapshot.endpoints}
            found = self._places[cluster] = (snapshot, zones, frozenset(zones.values()))
        return found[1], found[2]

    def _present(self, now: float) -> _Stretch:
        self._forget(now)
        if now - self._tidied >= WINDOW_S:  # nobody need ever read what is added up here
            self._drop_gone()
        if not self._stretches or now - self._stretches[-1].since >= _SLICE_S:
            self._stretches.append(_Stretch(now))
        return self._stretches[-1]

    def _forget(self, now: float) -> None:
        while self._stretches and now - self._stretches[0].since > WINDOW_S:
            self._stretches.popleft()

    def _drop_gone(self) -> None:
        """Forget endpoints and clusters that no longer exist."""
        self._tidied = self._clock()
        clusters = self._catalog.clusters()
        for row in list(self._totals):
            if row.cluster not in clusters:
                del self._totals[row]
                continue
            zones, known = self._known(row.cluster)
            if row.address not in zones if row.address else row.zone not in known:
                del self._totals[row]
        for table in (self._first, self._places):
            for cluster in [c for c in table if c not in clusters]:
                del table[cluster]

    def rates(self) -> dict[Row, Rate]:
        """What each row came to over the last minute."""
        now = self._clock()
        self._forget(now)
        self._drop_gone()
        found: dict[Row, _Sums] = {}
        for stretch in self._stretches:
            for row, sums in stretch.rows.items():
                if row in self._totals:
                    found.setdefault(row, _Sums()).join(sums)
        return {
            row: sums.over(max(0.001, min(WINDOW_S, now - self._first[row.cluster])))
            for row, sums in found.items()
        }

    def measure(self) -> None:
        """Bring the metrics up to date, before they are read."""
        rates = self.rates()
        counters = self._counters
        for name in (
            metrics.LOAD_REQUESTS,
            metrics.LOAD_ERRORS,
            metrics.LOAD_TIMED,
            metrics.LOAD_SECONDS,
            metrics.LOAD_IN_FLIGHT,
        ):
            counters.clear(name)
        counters.clear(metrics.LOAD_MAX_TO_MEAN)
        counters.clear(metrics.LOAD_CV)
        for row, sums in self._totals.items():
            labels = (row.cluster, row.zone, row.address, row.kind)
            counters.set(metrics.LOAD_REQUESTS, sums.requests, *labels)
            counters.set(metrics.LOAD_ERRORS, sums.errors, *labels)
            in_flight = rates[row].in_flight if row in rates else 0.0
            counters.set(metrics.LOAD_IN_FLIGHT, in_flight, *labels)
            if sums.timed:
                counters.set(metrics.LOAD_TIMED, sums.timed, *labels)
                counters.set(metrics.LOAD_SECONDS, sums.seconds, *labels)
        for row in self._idle():
            counters.set(metrics.LOAD_REQUESTS, 0, *row)
        self.servers.measure()
        for cluster in self._reported():
            even = self._evenness(cluster, rates)
            if even is not None:
                counters.set(metrics.LOAD_MAX_TO_MEAN, even[0], cluster)
                counters.set(metrics.LOAD_CV, even[1], cluster)

    def _reported(self) -> list[str]:
        """The clusters of which anybody has said anything."""
        return [*self._first, *sorted(self.servers.clusters() - self._first.keys())]

    def _idle(self) -> Iterator[Row]:
        """Usable endpoints without a request where others have some: they count in every mean."""
        seen = {(row.cluster, row.address): row.kind for row in self._totals if row.address}
        kinds = {cluster: kind for (cluster, _), kind in seen.items()}
        left = MAX_ROWS - len(self._totals)
        for cluster, kind in kinds.items():
            for endpoint in self._catalog.clusters()[cluster].usable():
                if (cluster, endpoint.target) not in seen and left > 0:
                    left -= 1
                    yield Row(cluster, endpoint.locality.zone, endpoint.target, kind)

    def _evenness(self, cluster: str, rates: Mapping[Row, Rate]) -> tuple[float, float] | None:
        """max/mean and CV of requests/s over the usable endpoints; those without any count too.

        By what servers say, where they do: over those that say it. None where neither they nor any
        client tells endpoints apart.
        """
        said = self.servers.of(cluster)
        if said is not None:
            return evenness([report.rps for report in said.values()])
        by_address: dict[str, float] = {}
        for row, rate in rates.items():
            if row.cluster == cluster and row.address:
                by_address[row.address] = by_address.get(row.address, 0.0) + rate.requests
        usable = [e.target for e in self._catalog.clusters()[cluster].usable()]
        return evenness([by_address.get(address, 0.0) for address in usable])

    def _latency(self, cluster: str) -> float | None:
        """The mean over the last minute and all clients that say how long requests took [s]."""
        total = _Sums()
        for stretch in self._stretches:
            for row, sums in stretch.rows.items():
                if row.cluster == cluster:
                    total.join(sums)
        return total.latency_s

    def view(self) -> list[dict[str, Any]]:
        """Each cluster with reports, the busiest first: JSON values for the admin pages."""
        rates = self.rates()
        found = []
        for cluster in self._reported():
            mine = {row: rate for row, rate in rates.items() if row.cluster == cluster}
            even = self._evenness(cluster, rates)
            said = self.servers.of(cluster)
            servers = None if said is None else said.values()
            told = mine.values()
            found.append(
                {
                    "cluster": cluster,
                    "by": "clients" if servers is None else "servers",
                    "requests_per_second": sum(r.requests for r in told)
                    if servers is None
                    else sum(s.rps for s in servers),
                    "errors_per_second": sum(r.errors for r in told)
                    if servers is None
                    else sum(s.eps for s in servers),
                    "in_flight": sum(r.in_flight for r in told)
                    if servers is None
                    else sum(s.in_flight or 0 for s in servers),
                    "latency_seconds": self._latency(cluster),
                    "max_to_mean": even[0] if even else None,
                    "cv": even[1] if even else None,
                    "rows": [
                        {
                            "zone": row.zone,
                            "endpoint": row.address,
                            "client": row.kind,
                            "requests_per_second": rate.requests,
                            "errors_per_second": rate.errors,
                            "in_flight": rate.in_flight,
                            "latency_seconds": rate.latency_s,
                        }
                        for row, rate in sorted(mine.items())
                    ],
                    "servers": self.servers.view(cluster),
                }
            )
        return sorted(found, key=lambda one: -float(one["requests_per_second"]))


def evenness(rates: list[float]) -> tuple[float, float] | None:
    """max/mean and CV (standard deviation / mean, of the whole population); 1 and 0 are even.

    None if there is no load.
    """
    total = math.fsum(rates)
    if total <= 0:
        return None
    mean = total / len(rates)
    variance = math.fsum((rate - mean) ** 2 for rate in rates) / len(rates)
    return max(rates) / mean, math.sqrt(variance) / mean
