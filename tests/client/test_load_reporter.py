"""When a process reports what, without any I/O."""

import gc
from random import Random

from envoy.service.load_stats.v3 import lrs_pb2

from trimtab.balancer import Balancer
from trimtab.client.load_reporter import CloseLoads, LoadReporter, OpenLoads, SendLoads
from trimtab.client.load_tally import Tally, wanted
from trimtab.model import Endpoint, Locality, Snapshot
from trimtab.policies import Outcome
from trimtab.testing import FakeClock
from trimtab.xds import type_urls
from trimtab.xds.client_session import NodeInfo

ORDERS = "orders.shop:8080"


def told(*, seconds=10, everything=True, clusters=(), endpoints=True):
    message = lrs_pb2.LoadStatsResponse(
        send_all_clusters=everything, clusters=clusters, report_endpoint_granularity=endpoints
    )
    message.load_reporting_interval.seconds = seconds
    return message.SerializeToString()


class Scene:
    """A channel with two endpoints in two zones, and the reporter of its process."""

    def __init__(self):
        self.clock = FakeClock(100.0)
        self.balancer = Balancer(ORDERS, clock=self.clock, random=Random(1))
        self.endpoints("10.0.0.1", "10.0.0.2")
        self.reporter = LoadReporter(NodeInfo(id="me"), Random(1))
        self.source = Tally(self.balancer)
        self.reporter.add(self.source)

    def endpoints(self, *addresses):
        told = [Endpoint(a, 80, locality=Locality("r", f"z{a[-1]}")) for a in addresses]
        for node in self.balancer.update(Snapshot(ORDERS, tuple(told))).added:
            self.balancer.set_connected(node, True)

    def request(self, outcome=Outcome.SUCCESS, *, seconds=0.5):
        pick = self.balancer.pick()
        self.clock.advance(seconds)
        pick.finish(outcome)

    def connect(self, answer=None):
        self.reporter.begin(1, self.clock())
        (opened,) = self.reporter.poll(self.clock())
        assert isinstance(opened, OpenLoads)
        self.reporter.received(1, answer or told(), self.clock())
        return opened

    def reports(self, after=11.0):
        sent = self.reporter.poll(self.clock.advance(after))
        assert all(isinstance(one, SendLoads) for one in sent)
        return [lrs_pb2.LoadStatsRequest.FromString(one.report) for one in sent]

    def counted(self):
        """Of each endpoint: issued, succeeded, failed, in flight; and all seconds."""
        (report,) = self.reports()
        (stats,) = report.cluster_stats
        assert stats.cluster_name == ORDERS
        found, seconds = {}, 0.0
        for zone in stats.upstream_locality_stats:
            for one in zone.upstream_endpoint_stats:
                address = one.address.socket_address.address
                found[address] = (
                    one.total_issued_requests,
                    one.total_successful_requests,
                    one.total_error_requests,
                    one.total_requests_in_progress,
                )
                seconds += sum(m.total_metric_value for m in one.load_metric_stats)
        return found, seconds


def test_the_stream_begins_with_who_reports():
    opened = Scene().connect()
    hello = lrs_pb2.LoadStatsRequest.FromString(opened.hello)
    assert (hello.node.id, hello.node.user_agent_name) == ("me", "trimtab")
    assert not hello.cluster_stats


def test_requests_errors_in_flight_and_seconds_are_those_since_the_last_report():
    scene = Scene()
    scene.request()  # before anybody asked
    scene.connect()
    for _ in range(6):
        scene.request()
    scene.request(Outcome.FAILURE)
    scene.request(Outcome.ANSWERED)
    waiting = scene.balancer.pick()
    found, seconds = scene.counted()
    sums = [sum(column) for column in zip(*found.values(), strict=True)]
    assert sums == [9, 7, 1, 1]
    assert seconds == 8 * 0.5
    waiting.finish(Outcome.SUCCESS)
    found, seconds = scene.counted()
    assert list(found.values()) == [(0, 1, 0, 0)]
    assert seconds == 11.0
    assert scene.reports() == []  # nothing happened


def test_a_report_says_how_long_its_interval_was_and_each_zone_apart():
    scene = Scene()
    scene.connect()
    for _ in range(40):
        scene.request(seconds=0.01)
    (report,) = scene.reports(after=12.0)
    (stats,) = report.cluster_stats
    assert abs(stats.load_report_interval.ToTimedelta().total_seconds() - 12.4) < 0.01
    zones = {one.locality.zone: one for one in stats.upstream_locality_stats}
    assert zones.keys() == {"z1", "z2"}
    assert sum(one.total_issued_requests for one in zones.values()) == 40
    (latency,) = zones["z1"].load_metric_stats
    assert latency.metric_name == type_urls.LATENCY


def test_only_what_the_control_plane_asks_for_is_reported():
    scene = Scene()
    scene.connect(told(everything=False, clusters=["other.shop:1"]))
    scene.request()
    assert scene.reports() == []
    scene.reporter.received(1, told(clusters=[ORDERS], endpoints=False), scene.clock())
    scene.request()
    (report,) = scene.reports()
    (zone,) = report.cluster_stats[0].upstream_locality_stats
    assert zone.total_issued_requests == 1
    assert not zone.upstream_endpoint_stats


def test_two_channels_of_one_service_add_up_and_a_closed_one_is_reported_still():
    scene = Scene()
    other = Scene()
    scene.reporter.add(other.source)
    scene.connect()
    scene.request()
    other.request()
    scene.reporter.remove(other.source)
    found, _ = scene.counted()
    assert sum(row[0] for row in found.values()) == 2
    scene.request()
    other.request()
    found, _ = scene.counted()
    assert sum(row[0] for row in found.values()) == 1


def test_a_channel_that_was_dropped_is_forgotten():
    scene = Scene()
    scene.connect()
    assert not scene.source.gone
    del scene.balancer
    gc.collect()
    assert scene.source.gone
    assert scene.reports() == []


def test_what_has_left_the_list_is_not_reported():
    scene = Scene()
    scene.connect()
    for _ in range(20):
        scene.request()
    scene.endpoints("10.0.0.2")
    found, _ = scene.counted()
    assert found.keys() == {"10.0.0.2"}


def test_no_control_plane_gets_more_than_one_report_a_second():
    scene = Scene()
    scene.connect(told(seconds=0))
    scene.request(seconds=0)
    assert scene.reports(after=0.8) == []
    assert len(scene.reports(after=0.4)) == 1


def test_a_control_plane_without_load_reports_is_not_asked_again():
    scene = Scene()
    scene.reporter.begin(1, scene.clock())
    scene.reporter.poll(scene.clock())
    scene.reporter.closed(1, "UNIMPLEMENTED: Method not found!", scene.clock())
    assert scene.reporter.wakes_at() is None
    assert scene.reporter.poll(scene.clock.advance(1e6)) == []


def test_a_stream_that_ends_or_talks_nonsense_is_opened_again_after_a_while():
    scene = Scene()
    scene.connect()
    scene.reporter.closed(1, "UNAVAILABLE: draining", scene.clock())
    due = scene.reporter.wakes_at()
    assert due is not None
    (opened,) = scene.reporter.poll(due)
    assert isinstance(opened, OpenLoads)
    assert scene.reporter.received(1, b"\xff\xff", due) == [CloseLoads(1)]
    assert scene.reporter.wakes_at() is not None


def test_with_its_connection_the_stream_is_gone_until_the_next():
    scene = Scene()
    scene.connect()
    scene.reporter.lost(1)
    assert scene.reporter.wakes_at() is None
    scene.reporter.begin(2, scene.clock())
    (opened,) = scene.reporter.poll(scene.clock())
    assert opened.stream == 2


def test_many_endpoints_take_several_messages():
    scene = Scene()
    scene.endpoints(*(f"10.{n // 250}.{n % 250}.1" for n in range(4500)))
    scene.connect()
    picks = [scene.balancer.pick() for _ in range(60_000)]
    reports = scene.reports()
    assert len(reports) == 3
    seen = [
        one.total_requests_in_progress
        for report in reports
        for zone in report.cluster_stats[0].upstream_locality_stats
        for one in zone.upstream_endpoint_stats
    ]
    assert sum(seen) == len(picks)
    assert max(report.ByteSize() for report in reports) < 500_000


def test_the_environment_turns_it_off():
    assert wanted({})
    assert wanted({"TRIMTAB_LOAD_REPORTS": "1"})
    assert not wanted({"TRIMTAB_LOAD_REPORTS": "off"})
