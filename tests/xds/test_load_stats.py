"""Load reports as official messages say them, hostile ones included."""

import pytest
from envoy.config.endpoint.v3 import load_report_pb2
from envoy.service.load_stats.v3 import lrs_pb2
from google.protobuf import duration_pb2
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import ProtocolError
from trimtab.xds.load_stats import MAX_RATE, Load, LoadStatsSession, Senseless
from trimtab.xds.server_client import ClientKind

MOST = 2**64 - 1


def session(request_bytes=100_000, node_bytes=1000):
    return LoadStatsSession(2.5, request_bytes=request_bytes, node_bytes=node_bytes)


def report(*, seconds=10, **counts):
    """One cluster, one zone, one endpoint, with the same numbers for the zone."""
    names = {
        "requests": "total_issued_requests",
        "good": "total_successful_requests",
        "bad": "total_error_requests",
        "now": "total_requests_in_progress",
    }
    numbers = {names[k]: v for k, v in counts.items()}
    endpoint = load_report_pb2.UpstreamEndpointStats(**numbers)
    endpoint.address.socket_address.address = "10.0.0.1"
    endpoint.address.socket_address.port_value = 80
    locality = load_report_pb2.UpstreamLocalityStats(upstream_endpoint_stats=[endpoint], **numbers)
    locality.locality.zone = "z1"
    stats = load_report_pb2.ClusterStats(
        cluster_name="orders.shop:8080",
        upstream_locality_stats=[locality],
        load_report_interval=duration_pb2.Duration(seconds=seconds),
    )
    request = lrs_pb2.LoadStatsRequest(cluster_stats=[stats])
    request.node.user_agent_name = "envoy"
    return request


def test_a_client_is_told_to_report_everything_per_endpoint_this_often():
    told = lrs_pb2.LoadStatsResponse.FromString(session().instruction())
    assert told.send_all_clusters
    assert told.report_endpoint_granularity
    assert told.load_reporting_interval.ToTimedelta().total_seconds() == 2.5


@pytest.mark.parametrize(("agent", "again"), [("envoy", True), ("gRPC Go", False)])
def test_only_envoy_is_told_again_for_the_clusters_that_came_since(agent, again):
    one = session()
    request = lrs_pb2.LoadStatsRequest()
    request.node.user_agent_name = agent
    one.receive(request.SerializeToString())
    assert one.instruction() is not None
    one.receive(request.SerializeToString())
    assert (one.instruction() is not None) is again


def test_a_report_says_who_reports_and_what_it_did_where():
    one = session()
    loads = one.receive(report(requests=50, good=45, bad=4, now=3).SerializeToString())
    assert one.client.kind is ClientKind.ENVOY
    assert loads == [Load("orders.shop:8080", "z1", "10.0.0.1:80", 50, 4, 3, 10.0, clamped=False)]


def test_what_a_client_counts_per_zone_only_has_no_address():
    request = report(good=3, bad=1)
    del request.cluster_stats[0].upstream_locality_stats[0].upstream_endpoint_stats[:]
    (load,) = session().receive(request.SerializeToString())
    # Without a count of what was begun, what ended stands for it.
    assert (load.address, load.requests, load.errors) == ("", 4, 1)


@pytest.mark.parametrize("seconds", [0, -1, -(10**11), 3601, 10**11])
def test_an_interval_that_makes_no_sense_is_left_out(seconds):
    loads = session().receive(report(seconds=seconds, good=1).SerializeToString())
    assert loads == [Senseless("orders.shop:8080")]


def test_numbers_beyond_belief_are_cut():
    (load,) = session().receive(
        report(requests=MOST, good=MOST, bad=MOST, now=MOST).SerializeToString()
    )
    assert (load.requests, load.errors) == (MAX_RATE * 10, MAX_RATE * 10)
    assert (load.in_flight, load.clamped) == (MAX_RATE, True)


def test_a_report_or_a_node_above_its_limit_ends_the_stream():
    with pytest.raises(ProtocolError, match="limit of 10"):
        session(request_bytes=10).receive(report(good=1).SerializeToString())
    request = report()
    request.node.id = "x" * 2000
    with pytest.raises(ProtocolError, match="limit of 1000"):
        session().receive(request.SerializeToString())


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(raw):
    try:
        found = session().receive(raw)
    except ProtocolError:
        return
    assert all(isinstance(one, Load | Senseless) for one in found)


def timed(timed, seconds, name="trimtab.dev/latency_seconds"):
    """A report whose requests are timed: what is believed of it."""
    request = report(requests=5)
    locality = request.cluster_stats[0].upstream_locality_stats[0]
    locality.upstream_endpoint_stats[0].load_metric_stats.add(
        metric_name=name, num_requests_finished_with_metric=timed, total_metric_value=seconds
    )
    (load,) = session().receive(request.SerializeToString())
    return load.timed, load.seconds


def test_how_long_requests_took_is_taken_if_it_can_be_true():
    assert timed(5, 2.5) == (5, 2.5)
    assert timed(5, 2.5, name="cost") == (0, 0.0)
    for seconds in (-1.0, float("nan"), float("inf"), 1e9):
        assert timed(5, seconds) == (0, 0.0)
    assert timed(MOST, 2.5) == (0, 0.0)
