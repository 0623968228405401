"""Connections that are replaced, and further ones, under real requests."""

import grpc
import pytest

from doors import loop, threads
from doors.calling import CALLERS, Load, connected, node_at
from harness.waiting import Unmet, eventually
from trimtab.client.connections import Connections

DOORS = {**threads.DOORS, **loop.DOORS}
FEW = [("grpc.max_concurrent_streams", 4)]

# See test_doors.
pytestmark = [
    pytest.mark.processes,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


@pytest.fixture(params=DOORS)
def door(request, echo):
    made = DOORS[request.param](echo)
    yield made
    made.close()


def test_connections_are_replaced_at_their_age_and_no_request_fails(door, servers, echo):
    both = servers.open("a", "b")
    channel = door.open([s.target for s in both], connections=Connections(max_age_s=1))
    connected(channel, 2)
    nodes = [node_at(channel, server.port) for server in both]
    long = channel.begin("Say", echo[0].Request(hold=True), timeout=60)
    load = Load(channel, echo[0].Request)

    def replaced():
        seen = [len(server.peers) for server in both]
        return min(seen) >= 3 or Unmet(seen)

    try:
        eventually(replaced, within=30, what="every server has seen three connections")
    finally:
        load.stop()
    assert load.errors == []
    for server in both:
        server.let_go.set()
    assert long.code() is grpc.StatusCode.OK
    # The endpoints' statistics outlive their connections.
    assert [node_at(channel, server.port) for server in both] == nodes
    assert sum(node.picks for node in nodes) == len(load.replies) + 1
    eventually(lambda: channel.balancer.in_flight == 0, within=10, what="all has ended")


def test_more_calls_than_a_server_takes_at_once_wait_and_none_hangs(door, servers, echo):
    server = servers.open("a", options=[("grpc.max_concurrent_streams", 2)])
    channel = door.open([server.target])
    connected(channel, 1)
    calls = [channel.begin("Say", echo[0].Request(hold=True), timeout=60) for _ in range(20)]
    eventually(lambda: server.holding == 2, within=20, what="as many as it takes are there")
    server.let_go.set()
    ended = [call.code() for call in calls]
    assert ended.count(grpc.StatusCode.OK) >= 2
    # gRPC's own server refuses some of those that follow each other closely, a native channel's as well.
    for call, code in zip(calls, ended, strict=True):
        if code is not grpc.StatusCode.OK:
            assert code is grpc.StatusCode.UNAVAILABLE
            assert "RST_STREAM with error code 7" in call.details()
    assert len(server.peers) == 1
    eventually(lambda: channel.balancer.in_flight == 0, within=10, what="all has ended")


def test_further_connections_serve_at_once_what_one_would_keep_waiting(door, servers, echo):
    server = servers.open("a", options=FEW)
    channel = door.open([server.target], connections=Connections(streams=4, most=3))
    connected(channel, 1)
    calls = [channel.begin("Say", echo[0].Request(hold=True), timeout=60) for _ in range(3 * 4)]
    eventually(lambda: server.holding == 3 * 4, within=20, what="all are served at once")
    assert len(server.peers) == 3
    server.let_go.set()
    assert {call.code() for call in calls} == {grpc.StatusCode.OK}


def test_blocking_callers_spread_over_further_connections_and_none_fails(door, servers, echo):
    server = servers.open("a", options=[("grpc.max_concurrent_streams", 8)])
    channel = door.open([server.target], connections=Connections(streams=2))
    connected(channel, 1)
    load = Load(channel, lambda: echo[0].Request(hold=True))
    try:
        eventually(lambda: server.holding == CALLERS, within=20, what="all are served at once")
        server.let_go.set()
        load.more(300)
    finally:
        server.let_go.set()
        load.stop()
    assert load.errors == []
    assert len(server.peers) == CALLERS / 2
