"""The server's side of load reporting (LRS, envoy.service.load_stats.v3), for one stream. Pure.

A client says who it is, is told once how often to report what, and then reports. Envoy and native
gRPC count per locality; Envoy per endpoint as well, where it is asked to. What a report says is the
client's word: numbers are cut to what can be true, and parts that make no sense are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf import duration_pb2

from trimtab.errors import ProtocolError
from trimtab.model import host_port
from trimtab.xds import type_urls
from trimtab.xds import wire_pb2 as wire
from trimtab.xds.parsing import parsed
from trimtab.xds.server_client import Client, ClientKind
from trimtab.xds.server_stream import client_of

MAX_RATE = 1_000_000
"""Requests per second of one client to one endpoint, and in flight, above which none is believed."""

MAX_INTERVAL_S = 3600.0
_MIN_INTERVAL_S = 0.001
_MOST_LATENCY_S = 86_400.0  # of one request: a stream may live for a day


@dataclass(frozen=True, slots=True)
class Load:
    """What a client did with one endpoint, or one zone, in one interval.

    Attributes:
        cluster: its name, as the client has it.
        zone: where.
        address: ``host:port``; "" where the client counts per zone only.
        requests: begun in the interval.
        errors: those that ended with an error in it.
        in_flight: under way at its end.
        interval_s: its length [s].
        timed: requests that ended, where the client says how long they took.
        seconds: how long those took, together [s].
        clamped: whether a number was cut.
    """

    cluster: str
    zone: str
    address: str
    requests: int
    errors: int
    in_flight: int
    interval_s: float
    clamped: bool
    timed: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Senseless:
    """A part of a report that was left out: its interval is not above 0, or longer than an hour."""

    cluster: str


class LoadStatsSession:
    """One stream.

    Args:
        interval_s: how often to report [s].
        request_bytes: the largest report.
        node_bytes: the largest node.
    """

    def __init__(self, interval_s: float, *, request_bytes: int, node_bytes: int) -> None:
        self.client: Client | None = None
        self._told = False
        self._interval_s = interval_s
        self._request_bytes = request_bytes
        self._node_bytes = node_bytes

    def receive(self, request: bytes) -> list[Load | Senseless]:
        """Take in a report. The first one says who the client is.

        Raises:
            ProtocolError: it can't be read, or exceeds a limit.
        """
        if len(request) > self._request_bytes:
            raise ProtocolError(
                f"load report: {len(request)} bytes are more than the limit of "
                f"{self._request_bytes}"
            )
        message = parsed(wire.LoadStatsRequest, request)
        if self.client is None:
            node = message.node if message.HasField("node") else None
            if node is not None and (size := node.ByteSize()) > self._node_bytes:
                raise ProtocolError(
                    f"node: {size} bytes are more than the limit of {self._node_bytes}"
                )
            self.client = client_of(node)
        return [load for stats in message.cluster_stats for load in _loads(stats)]

    def instruction(self) -> bytes | None:
        """What to answer to a report: everything, per endpoint where it can, this often.

        Envoy takes "all clusters" for those that it has at that moment, so it is told after each
        report. Others are told once: not all of them read on, and an unread stream would block.
        """
        if self._told and (self.client is None or self.client.kind is not ClientKind.ENVOY):
            return None
        self._told = True
        interval = duration_pb2.Duration()
        interval.FromNanoseconds(int(self._interval_s * 1e9))
        return wire.LoadStatsResponse(
            send_all_clusters=True,
            report_endpoint_granularity=True,
            load_reporting_interval=interval,
        ).SerializeToString()


def _loads(stats: wire.ClusterStats) -> Iterator[Load | Senseless]:
    name = stats.cluster_service_name or stats.cluster_name
    interval = stats.load_report_interval
    interval_s = interval.seconds + interval.nanos / 1e9
    if not _MIN_INTERVAL_S <= interval_s <= MAX_INTERVAL_S:
        yield Senseless(name)
        return
    for locality in stats.upstream_locality_stats:
        zone = locality.locality.zone
        if not locality.upstream_endpoint_stats:
            yield _load(name, zone, "", locality, interval_s)
        for one in locality.upstream_endpoint_stats:
            where = one.address.socket_address
            yield _load(name, zone, host_port(where.address, where.port_value), one, interval_s)


def _load(
    cluster: str,
    zone: str,
    address: str,
    stats: wire.UpstreamLocalityStats | wire.UpstreamEndpointStats,
    interval_s: float,
) -> Load:
    most = max(1, int(MAX_RATE * interval_s))
    ended = stats.total_successful_requests + stats.total_error_requests
    # Old clients don't count what they issue.
    requests = stats.total_issued_requests or ended
    errors, in_flight = stats.total_error_requests, stats.total_requests_in_progress
    timed, seconds = _latency(stats)
    return Load(
        cluster,
        zone,
        address,
        min(requests, most),
        min(errors, most),
        min(in_flight, MAX_RATE),
        interval_s,
        clamped=max(requests, errors, timed) > most or in_flight > MAX_RATE,
        timed=timed if timed <= most else 0,
        seconds=seconds if timed <= most else 0.0,
    )


def _latency(stats: wire.UpstreamLocalityStats | wire.UpstreamEndpointStats) -> tuple[int, float]:
    """How many requests took how long together [s]; what can't be true counts as none."""
    for metric in stats.load_metric_stats:
        timed, seconds = metric.num_requests_finished_with_metric, metric.total_metric_value
        if metric.metric_name == type_urls.LATENCY and 0 <= seconds <= timed * _MOST_LATENCY_S:
            return timed, seconds
    return 0, 0.0
