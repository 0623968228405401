"""The counters that are read from channels' state: they add up, and never go back."""

import gc
import random

import pytest

from trimtab.balancer import Balancer
from trimtab.client import live_metrics
from trimtab.client.observing import OTHER, Names
from trimtab.client.open_channels import MOST_PASTS, Listed, pasts
from trimtab.client.watching import Fixed
from trimtab.model import Endpoint, Locality, PolicyConfig, Snapshot, ZoneSplit
from trimtab.policies import Outcome

A = Endpoint("10.0.0.1", 80, locality=Locality(zone="z1"))
B = Endpoint("10.0.0.2", 80, locality=Locality(zone="z2"))


class Channel:
    def __init__(self, service, *endpoints, policy=None, **options):
        fixed = policy and PolicyConfig.of(policy, zone="off")
        self.balancer = Balancer(
            service, clock=lambda: 1.0, random=random.Random(1), policy=fixed, **options
        )
        self.listed = Listed(self.balancer, Fixed())
        self.update(*endpoints)

    def update(self, *endpoints, **facts):
        self.balancer.update(Snapshot(self.balancer.cluster, endpoints, **facts))

    def send(self, n, outcome=Outcome.SUCCESS):
        for _ in range(n):
            self.balancer.pick().finish(outcome)


@pytest.fixture
def opened(request):
    gc.collect()  # channels of other tests that were dropped: their ends are remembered, too
    made = []

    def make(*endpoints, **options):
        made.append(Channel(request.node.name, *endpoints, **options))
        return made[-1]

    make.service = request.node.name
    yield make
    for channel in made:
        channel.listed.close()


def values(name, service):
    found = live_metrics.read()[name].items()
    return {labels[1:]: value for labels, value in found if labels and labels[0] == service}


def requests(service):
    return values("trimtab_client_endpoint_requests_total", service)


def test_channels_of_one_service_are_added_up(opened):
    first, second = opened(A), opened(A)
    first.send(3)
    second.send(2, Outcome.FAILURE)
    held = second.balancer.pick()
    key = ("10.0.0.1:80", "z1")
    assert requests(opened.service) == {key: 6}
    assert values("trimtab_client_endpoint_errors_total", opened.service) == {key: 2}
    assert values("trimtab_client_endpoint_in_flight", opened.service) == {key: 1}
    assert values("trimtab_client_channels", opened.service) == {(): 2}
    assert values("trimtab_client_requests_total", opened.service) == {("z1",): 6}
    held.finish(Outcome.SUCCESS)


def test_what_a_closed_channel_did_stays_counted(opened):
    first, second = opened(A), opened(A)
    first.send(3)
    second.send(2)
    first.listed.close()
    first.listed.close()
    assert requests(opened.service) == {("10.0.0.1:80", "z1"): 5}
    second.listed.close()
    assert requests(opened.service) == {}
    assert values("trimtab_client_requests_total", opened.service) == {("z1",): 5}
    opened(A).send(1)
    assert values("trimtab_client_requests_total", opened.service) == {("z1",): 6}


def crossings(service):
    return values("trimtab_client_zone_requests_total", service)


def test_requests_that_leave_the_zone_are_told_from_those_that_stay(opened):
    channel = opened(A, B, zone="z1", policy="round_robin")
    assert crossings(opened.service) == {("own",): 0, ("other",): 0}
    channel.send(6)
    assert crossings(opened.service) == {("own",): 3, ("other",): 3}
    channel.update(B)
    channel.send(2)
    assert crossings(opened.service) == {("own",): 3, ("other",): 5}
    channel.listed.close()
    opened(A, zone="z1").send(1)
    assert crossings(opened.service) == {("own",): 4, ("other",): 5}


def test_requests_before_the_zone_was_known_and_to_endpoints_without_one_are_unknown(opened):
    channel = opened(A)
    channel.send(2)
    assert crossings(opened.service) == {("unknown",): 2}
    channel.update(A, zones=ZoneSplit("z2", ()))
    assert crossings(opened.service) == {("unknown",): 2, ("own",): 0, ("other",): 0}
    channel.send(3)
    assert crossings(opened.service) == {("unknown",): 2, ("own",): 0, ("other",): 3}
    channel.update(Endpoint("10.0.0.3", 80), zones=ZoneSplit("z2", ()))
    channel.send(1)
    assert crossings(opened.service) == {("unknown",): 3, ("own",): 0, ("other",): 3}


def test_endpoints_of_closed_channels_are_forgotten_though_nobody_reads(opened):
    first, second = opened(A, B), opened(A)
    first.send(4)
    first.listed.close()
    assert list(pasts()[opened.service].endpoints) == ["10.0.0.1:80"]
    second.listed.close()
    assert pasts()[opened.service].endpoints == {}


def test_a_counter_stands_still_when_one_of_two_channels_drops_the_endpoint(opened):
    first, second = opened(A, B), opened(A, B)
    first.update(A)
    second.update(A)
    first.send(10)
    second.send(4)
    key = ("10.0.0.1:80", "z1")
    assert requests(opened.service)[key] == 14
    first.update(B)
    assert requests(opened.service)[key] == 14
    second.send(4)
    assert requests(opened.service)[key] == 14
    second.send(10)
    assert requests(opened.service)[key] == 18


def test_a_channel_that_is_made_anew_begins_to_count_anew(opened):
    first = opened(A)
    first.send(10)
    key = ("10.0.0.1:80", "z1")
    assert requests(opened.service) == {key: 10}
    first.listed.close()
    opened(A).send(6)  # nobody has read in between
    assert requests(opened.service) == {key: 6}


def test_an_endpoint_that_has_left_has_no_series(opened):
    channel = opened(A, B)
    channel.send(20)
    assert len(requests(opened.service)) == 2
    channel.update(B)
    assert list(requests(opened.service)) == [("10.0.0.2:80", "z2")]
    zones = values("trimtab_client_requests_total", opened.service)
    assert sum(zones.values()) == 20


def test_connections_are_counted_as_they_come_and_go(opened):
    channel = opened(A, B)
    a, b = channel.balancer.nodes.values()

    def counted():
        service = opened.service
        return [
            values(f"grpc_subchannel_{name}", service)[()]
            for name in (
                "open_connections",
                "connection_attempts_succeeded_total",
                "disconnections_total",
            )
        ]

    channel.balancer.set_connected(a, True)
    channel.balancer.set_connected(b, True)
    assert counted() == [2, 2, 0]
    channel.balancer.set_connected(b, False)
    assert counted() == [1, 2, 1]
    channel.update(B)
    channel.balancer.set_connected(a, False)  # its own door says so afterwards
    assert counted() == [0, 2, 2]


def test_the_number_of_series_is_bounded(opened):
    many = [Endpoint("10.1.0.1", port) for port in range(1, live_metrics.MOST_ENDPOINTS + 21)]
    opened(*many)
    found = live_metrics.read()
    assert len(found["trimtab_client_endpoint_requests_total"]) == live_metrics.MOST_ENDPOINTS
    assert found["trimtab_client_endpoints_unlisted"][()] >= 20
    assert values("trimtab_client_endpoints", opened.service) == {("connecting",): len(many)}


def test_of_services_without_a_channel_those_that_closed_one_last_are_remembered(opened):
    still = opened(A)
    still.send(3)
    for _ in range(2):
        opened(A).listed.close()  # of a service that has another channel: it stays
    for i in range(MOST_PASTS + 10):
        channel = Channel(f"passing-{i}:80", A)
        channel.send(1)
        channel.listed.close()
    passing = [service for service in pasts() if service.startswith("passing-")]
    assert passing == [f"passing-{i}:80" for i in range(10, MOST_PASTS + 10)]
    assert opened.service in pasts()
    assert values("trimtab_client_requests_total", opened.service) == {("z1",): 3}


def test_names_beyond_a_thousand_are_other():
    names = Names()
    assert [names.of(f"m{n}") for n in range(1000)] == [f"m{n}" for n in range(1000)]
    assert names.of("one more") == OTHER
    assert names.of("m7") == "m7"
