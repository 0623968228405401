"""The client's side of load reporting (LRS, envoy.service.load_stats.v3), for one stream. Pure.

The first message says who reports. The control plane then says of which clusters, whether per
endpoint, and how often; it may change its mind. How long requests took travels as a metric of its
own (``type_urls.LATENCY``), which others skip: LRS has no field for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

from google.protobuf import duration_pb2
from google.protobuf.message import DecodeError

from trimtab.errors import ProtocolError
from trimtab.model import Locality
from trimtab.xds import type_urls
from trimtab.xds import wire_pb2 as wire
from trimtab.xds.client_session import NodeInfo, node_message

LEAST_INTERVAL_S = (
    1.0  # as native gRPC: a control plane can't ask for more than one report a second
)
_MOST_INTERVAL_S = 3600.0
_MOST_ENDPOINTS = 2000  # in one message: about 200 KB, well below what servers take


@dataclass(frozen=True, slots=True)
class Place:
    """One endpoint of one cluster.

    Attributes:
        cluster: its name, as the control plane sent it.
        locality: where the endpoint is.
        address: its address.
        port: its port.
    """

    cluster: str
    locality: Locality
    address: str
    port: int


@dataclass(slots=True)
class Counts:
    """What was done with one endpoint since the last report.

    Attributes:
        begun: requests sent.
        ended: requests that ended.
        errors: those of them that ended badly, by the endpoint's doing.
        in_flight: requests under way now.
        seconds: how long those that ended took, together [s].
    """

    begun: int = 0
    ended: int = 0
    errors: int = 0
    in_flight: int = 0
    seconds: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.begun or self.ended or self.in_flight)

    def add(self, other: Counts) -> None:
        """Another channel did this with the same endpoint."""
        self.begun += other.begun
        self.ended += other.ended
        self.errors += other.errors
        self.in_flight += other.in_flight
        self.seconds += other.seconds


class LoadReports:
    """What to write to one stream.

    Args:
        node: who reports.

    Attributes:
        interval_s: how often to report [s]; None until the control plane has said so.
    """

    def __init__(self, node: NodeInfo) -> None:
        self._node = node
        self._all = False
        self._clusters: frozenset[str] = frozenset()
        self._per_endpoint = False
        self.interval_s: float | None = None

    def hello(self) -> bytes:
        """The first message."""
        return wire.LoadStatsRequest(node=node_message(self._node)).SerializeToString()

    def receive(self, response: bytes) -> None:
        """Take in what the control plane wants.

        Raises:
            ProtocolError: the bytes are no such response; close the stream.
        """
        try:
            told = wire.LoadStatsResponse.FromString(response)
        except DecodeError as error:
            raise ProtocolError(f"load reports: not a LoadStatsResponse: {error}") from error
        interval = told.load_reporting_interval
        wanted_s = interval.seconds + interval.nanos / 1e9
        self._all = told.send_all_clusters
        self._clusters = frozenset(told.clusters)
        self._per_endpoint = told.report_endpoint_granularity
        self.interval_s = min(_MOST_INTERVAL_S, max(LEAST_INTERVAL_S, wanted_s))

    def report(self, counts: Mapping[Place, Counts], interval_s: float) -> list[bytes]:
        """The messages for one interval; none if there is nothing to say.

        Args:
            counts: of all endpoints; those without anything in them are left out.
            interval_s: how long the interval was [s].
        """
        told = sorted(
            (
                (place, counted)
                for place, counted in counts.items()
                if counted and (self._all or place.cluster in self._clusters)
            ),
            key=lambda one: (one[0].cluster, str(one[0].locality)),
        )
        length = duration_pb2.Duration()
        length.FromNanoseconds(int(interval_s * 1e9))
        return [
            self._message(told[at : at + _MOST_ENDPOINTS], length)
            for at in range(0, len(told), _MOST_ENDPOINTS)
        ]

    def _message(self, told: list[tuple[Place, Counts]], length: duration_pb2.Duration) -> bytes:
        message = wire.LoadStatsRequest()
        for cluster, of_cluster in groupby(told, key=lambda one: one[0].cluster):
            stats = message.cluster_stats.add(cluster_name=cluster, load_report_interval=length)
            for locality, endpoints in groupby(of_cluster, key=lambda one: one[0].locality):
                self._add(stats, locality, list(endpoints))
        return message.SerializeToString()

    def _add(
        self, stats: wire.ClusterStats, locality: Locality, endpoints: list[tuple[Place, Counts]]
    ) -> None:
        zone = stats.upstream_locality_stats.add()
        zone.locality.region = locality.region
        zone.locality.zone = locality.zone
        zone.locality.sub_zone = locality.sub_zone
        _fill(zone, (counted for _, counted in endpoints))
        if not self._per_endpoint:
            return
        for place, counted in endpoints:
            one = zone.upstream_endpoint_stats.add()
            one.address.socket_address.address = place.address
            one.address.socket_address.port_value = place.port
            _fill(one, (counted,))


def _fill(
    stats: wire.UpstreamLocalityStats | wire.UpstreamEndpointStats, counts: Iterable[Counts]
) -> None:
    total = Counts()
    for counted in counts:
        total.add(counted)
    # Threads count while this is read: a request may have ended between two fields.
    stats.total_issued_requests = max(0, total.begun)
    stats.total_error_requests = max(0, total.errors)
    stats.total_successful_requests = max(0, total.ended - total.errors)
    stats.total_requests_in_progress = max(0, total.in_flight)
    if total.ended > 0 and total.seconds >= 0:
        stats.load_metric_stats.add(
            metric_name=type_urls.LATENCY,
            num_requests_finished_with_metric=total.ended,
            total_metric_value=total.seconds,
        )
