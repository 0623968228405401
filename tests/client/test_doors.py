"""The contract of every door; a new door adds itself to DOORS."""

import collections
import gc
import threading

import grpc
import pytest

from doors import loop, threads
from doors.servers import Servers
from harness.waiting import eventually, stays
from trimtab.model import Endpoint, Health, Snapshot

DOORS = {**threads.DOORS, **loop.DOORS}
SERVICE = "orders.shop:80"


@pytest.fixture(params=DOORS)
def door(request, echo):
    made = DOORS[request.param](echo)
    yield made
    made.close()


@pytest.fixture
def servers(echo):
    made = Servers(echo)
    yield made
    made.close()


@pytest.fixture
def ask(echo):
    return echo[0].Request


def at(server, **more):
    return Endpoint("127.0.0.1", server.port, **more)


def snapshot(*endpoints):
    return Snapshot(SERVICE, endpoints)


def tell(channel, *endpoints):
    """Give the channel a new snapshot and wait until it has it."""
    new = snapshot(*endpoints)
    channel.update(new)
    eventually(lambda: channel.balancer.snapshot is new, within=5, what="the snapshot arrived")


def idle(channel):
    eventually(lambda: channel.balancer.in_flight == 0, within=5, what="nothing in flight")
    assert all(node.in_flight == 0 for node in channel.balancer.nodes.values())


def connected(channel, n):
    def count():
        return sum(node.connected for node in channel.balancer.nodes.values()) == n

    eventually(count, within=5, what=f"{n} endpoints connected")


def error_of(call, *arguments, **more):
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **more)
    return caught.value


# Requests


def test_requests_are_spread_over_all_endpoints(door, servers, ask):
    made = servers.open("a", "b", "c")
    channel = door.open([s.target for s in made])
    connected_at_first = channel.say(ask(text="hello"), timeout=5)
    assert connected_at_first.text == "hello"
    connected(channel, 3)
    found = collections.Counter(channel.say(ask()).server for _ in range(150))
    assert min(found[s.name] for s in made) >= 25  # 50 each, standard deviation below 6
    idle(channel)


def test_all_four_arities_work_and_leave_nothing_in_flight(door, servers, ask):
    channel = door.open([servers.open("a").target])
    assert channel.say(ask(text="x"), timeout=5).text == "x"
    assert [r.text for r in channel.count(ask(text="y", replies=3), timeout=5)] == ["y"] * 3
    assert channel.gather([ask(text="a"), ask(text="b")], timeout=5).text == "a b"
    assert [r.text for r in channel.talk([ask(text="c"), ask(text="d")], timeout=5)] == ["c", "d"]
    assert channel.begin("Say", ask(), timeout=5).code() is grpc.StatusCode.OK
    idle(channel)


@pytest.mark.parametrize("method", ["Say", "Count", "Gather", "Talk"])
def test_each_arity_can_wait_for_its_first_endpoint(door, servers, ask, method):
    channel = door.open([])
    request = ask(text="x", replies=1)
    call = channel.begin(
        method,
        iter([request]) if method in {"Gather", "Talk"} else request,
        wait_for_ready=True,
        timeout=8,
    )
    tell(channel, at(servers.open("a")))
    if method in {"Count", "Talk"}:
        assert call.first().text == "x"
    assert call.code() is grpc.StatusCode.OK
    idle(channel)


def test_metadata_and_compression_reach_the_server(door, servers, ask):
    channel = door.open([servers.open("a").target], compression=grpc.Compression.Gzip)
    for _ in range(2):  # the first one waits for the connection
        reply = channel.say(
            ask(), metadata=(("x-test", "1"),), compression=grpc.Compression.Gzip, timeout=5
        )
        assert reply.seen == "1"


# The end of a call


@pytest.mark.parametrize("code", [1, 2, 3, 5, 8, 13, 14])
def test_a_servers_error_is_the_callers_and_ends_the_count(door, servers, ask, code):
    channel = door.open([servers.open("a").target])
    error = error_of(channel.say, ask(fail_with=code), timeout=5)
    assert error.code().value[0] == code
    assert "asked to fail" in error.details()
    idle(channel)


def test_a_deadline_ends_the_count(door, servers, ask):
    channel = door.open([servers.open("a").target])
    channel.ready()
    error = error_of(channel.say, ask(hold=True), timeout=0.1)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    for method in ("Say", "Count"):
        call = channel.begin(method, ask(hold=True), timeout=0.1)
        assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    idle(channel)


@pytest.mark.parametrize("method", ["Say", "Count"])
def test_a_cancelled_call_is_not_counted_any_more(door, servers, ask, method):
    server = servers.open("a")
    channel = door.open([server.target])
    channel.ready()
    call = channel.begin(method, ask(hold=True))
    eventually(lambda: server.received == 1, within=5, what="the request arrived")
    assert channel.balancer.in_flight == 1
    call.cancel()
    assert call.code() is grpc.StatusCode.CANCELLED
    idle(channel)
    eventually(lambda: server.cancelled == 1, within=5, what="the server hears of it")


@pytest.mark.parametrize("method", ["Say", "Count"])
def test_a_call_cancelled_before_it_left_is_not_counted(door, servers, ask, method):
    channel = door.open([servers.open("a").target])
    channel.ready()
    for _ in range(20):
        channel.begin(method, ask(hold=True)).cancel()
    idle(channel)


def test_a_call_cancelled_while_it_waits_never_leaves(door, servers, ask):
    channel = door.open([])
    call = channel.begin("Say", ask(), wait_for_ready=True)
    call.cancel()
    assert call.code() is grpc.StatusCode.CANCELLED
    server = servers.open("a")
    tell(channel, at(server))
    channel.say(ask(), wait_for_ready=True, timeout=5)
    assert server.received == 1


def test_a_stream_that_is_dropped_is_cancelled_and_not_counted(door, servers, ask):
    server = servers.open("a")
    channel = door.open([server.target])
    channel.ready()
    call = channel.begin("Count", ask(replies=1, hold=True))
    eventually(lambda: server.received == 1, within=5, what="the request arrived")
    call.drop()
    if not door.drop_safe:  # what gRPC's public interface can't do, as aio_public says
        assert channel.balancer.in_flight == 1
        channel.close()
    idle(channel)
    eventually(lambda: server.cancelled == 1, within=5, what="the server hears of it")


def test_a_stream_that_is_broken_off_is_cancelled_and_not_counted(door, servers, ask):
    server = servers.open("a")
    channel = door.open([server.target])
    channel.ready()
    call = channel.begin("Count", ask(replies=2, hold=True))
    assert call.first().server == "a"
    call.drop()
    gc.collect()
    if not door.drop_safe:
        channel.close()
    idle(channel)


def test_closing_the_channel_ends_what_is_in_flight(door, servers, ask):
    server = servers.open("a")
    channel = door.open([server.target])
    channel.ready()
    calls = [channel.begin(method, ask(hold=True)) for method in ("Say", "Count")]
    waiting = door.open([]).begin("Say", ask(), wait_for_ready=True)
    eventually(lambda: server.received == 2, within=5, what="both requests arrived")
    channel.close()
    assert {call.code() for call in calls} == {grpc.StatusCode.CANCELLED}
    idle(channel)
    assert channel.state() is grpc.ChannelConnectivity.SHUTDOWN
    with pytest.raises((ValueError, grpc.aio.UsageError)):
        channel.begin("Say", ask())
    waiting.cancel()


def test_a_mix_of_ends_leaves_nothing_in_flight(door, servers, ask):
    made = servers.open("a", "b")
    channel = door.open([s.target for s in made])
    channel.ready()
    calls = []
    for i in range(60):
        match i % 6:
            case 0:
                calls.append(channel.begin("Say", ask()))
            case 1:
                calls.append(channel.begin("Say", ask(fail_with=14)))
            case 2:
                calls.append(channel.begin("Say", ask(hold=True), timeout=0.2))
            case 3:
                channel.begin("Count", ask(replies=3, hold=True)).cancel()
            case 4:
                assert len(channel.count(ask(replies=1))) == 1
            case 5 if door.drop_safe:
                channel.begin("Count", ask(replies=1, hold=True)).drop()
    for call in calls:
        call.code()
    gc.collect()
    idle(channel)


# Interceptors


def test_an_interceptor_that_answers_itself_costs_no_endpoint_anything(door, servers, ask, echo):
    server = servers.open("a")
    channel = door.open([server.target], interceptors=[door.answer(echo[0].Reply(text="mine"))])
    channel.ready()
    if isinstance(door, loop.LoopDoor):
        assert channel.say(ask()).text == "mine"
        assert server.received == 0
    idle(channel)


def test_a_retry_lands_on_another_endpoint(door, servers, ask):
    """Interceptors stand above the pick: 1 of 2 endpoints always fails."""
    good, bad = servers.open("good", "bad")
    bad._answer = lambda _request, context: context.abort(grpc.StatusCode.UNAVAILABLE, "bad")
    failed = []
    channel = door.open(
        [good.target, bad.target], policy="random", interceptors=[door.retry(16, failed)]
    )
    connected(channel, 2)
    for _ in range(30):
        assert channel.say(ask(), timeout=5).server == "good"  # all 16 bad: 1 in 65,536
    assert 5 < len(failed) < 90  # 30 expected, standard deviation 7.7
    idle(channel)


# Endpoints come and go


def test_a_new_endpoint_gets_requests_only_once_it_is_connected(door, servers, ask):
    first, second = servers.open("a", "b")
    channel = door.open([])
    nobody = Endpoint("127.0.0.1", 1)
    tell(channel, at(first), nobody)
    connected(channel, 1)
    assert {channel.say(ask(), timeout=5).server for _ in range(20)} == {"a"}
    tell(channel, at(first), at(second), nobody)
    connected(channel, 2)
    assert {channel.say(ask(), timeout=5).server for _ in range(40)} == {"a", "b"}
    assert channel.balancer.nodes[nobody.key].picks == 0


def test_a_draining_endpoint_gets_nothing_new_and_finishes_what_it_has(door, servers, ask):
    first, second = servers.open("a", "b")
    channel = door.open(None)
    tell(channel, at(first))
    held = channel.begin("Say", ask(hold=True), wait_for_ready=True)
    eventually(lambda: first.received == 1, within=5, what="the request arrived")
    tell(channel, at(first, health=Health.DRAINING), at(second))
    connected(channel, 2)
    assert {channel.say(ask(), timeout=5).server for _ in range(20)} == {"b"}
    first.let_go.set()
    assert held.code() is grpc.StatusCode.OK
    idle(channel)


def test_an_endpoint_that_leaves_finishes_what_it_has_and_is_then_let_go(door, servers, ask):
    first, second = servers.open("a", "b")
    channel = door.open(None)
    tell(channel, at(first))
    held = channel.begin("Count", ask(replies=1, hold=True), wait_for_ready=True)
    assert held.first().server == "a"
    node = channel.balancer.nodes[at(first).key]
    tell(channel, at(second))
    connected(channel, 1)
    assert {channel.say(ask(), timeout=5).server for _ in range(20)} == {"b"}
    assert node.in_flight == 1
    links = channel.raw._cluster._links
    assert node.transport in links
    first.let_go.set()
    assert held.rest() == []
    assert held.code() is grpc.StatusCode.OK
    eventually(lambda: node.transport not in links, within=5, what="its channel was closed")
    idle(channel)


def test_a_pod_that_returns_at_the_same_address_starts_clean(door, servers, ask):
    server = servers.open("a")
    channel = door.open(None)
    tell(channel, at(server, uid="1"))
    held = channel.begin("Say", ask(hold=True), wait_for_ready=True)
    eventually(lambda: server.received == 1, within=5, what="the request arrived")
    tell(channel, at(server, uid="2"))
    connected(channel, 1)
    node = channel.balancer.nodes[at(server).key]
    assert (node.in_flight, node.picks) == (0, 0)
    server.let_go.set()
    assert held.code() is grpc.StatusCode.OK
    idle(channel)
    assert node.in_flight == 0


def test_a_server_that_says_goodbye_leaves_at_once_and_is_reconnected(door, servers, ask):
    first, second = servers.open("a", "b")
    channel = door.open([first.target, second.target])
    connected(channel, 2)
    first.stop()
    connected(channel, 1)
    assert {channel.say(ask(), timeout=5).server for _ in range(40)} == {"b"}
    servers.open("a2", port=first.port)
    connected(channel, 2)
    assert {channel.say(ask(), timeout=5).server for _ in range(40)} == {"a2", "b"}


# Nobody to call


def test_without_a_snapshot_a_call_waits_up_to_its_deadline(door, ask):
    channel = door.open(None)
    error = error_of(channel.say, ask(), timeout=0.2)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert SERVICE in error.details()
    assert "no endpoints received yet" in error.details()


def test_when_no_snapshot_can_be_had_a_call_fails_at_once_with_the_reason(door, servers, ask):
    channel = door.open(None)
    channel.fail("control plane 10.0.0.1:18000 unreachable")
    eventually(
        lambda: channel.state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE,
        within=5,
        what="the failure arrived",
    )
    error = error_of(channel.say, ask(), timeout=60)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error.details() == "control plane 10.0.0.1:18000 unreachable"
    call = channel.begin("Say", ask(), wait_for_ready=True, timeout=8)
    tell(channel, at(servers.open("a")))
    assert call.code() is grpc.StatusCode.OK


def test_an_empty_cluster_fails_at_once_in_words(door, ask):
    channel = door.open([])
    for method in ("Say", "Count"):
        call = channel.begin(method, ask(), timeout=60)
        assert call.code() is grpc.StatusCode.UNAVAILABLE
        text = call.details()
        assert f"{SERVICE}: the service has no endpoints" in text
        assert "list received 0 s ago" in text
    error = error_of(channel.say, ask(), wait_for_ready=True, timeout=0.2)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert channel.state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE
    idle(channel)


def test_when_nobody_accepts_connections_the_error_says_why(door, servers, ask):
    channel = door.open(["127.0.0.1:1"])
    error = error_of(channel.say, ask(), timeout=60)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "no endpoint accepts connections (endpoints: 1 ready" in error.details()
    assert "Connection refused" in error.details()
    call = channel.begin("Say", ask(), wait_for_ready=True, timeout=8)
    tell(channel, at(servers.open("a")))
    assert call.code() is grpc.StatusCode.OK


def test_unhealthy_endpoints_are_not_connected(door, servers, ask):
    server = servers.open("a")
    channel = door.open(None)
    tell(channel, at(server, health=Health.UNHEALTHY))
    error = error_of(channel.say, ask(), timeout=5)
    assert "1 unhealthy" in error.details()
    assert channel.balancer.nodes[at(server).key].transport is None


def test_the_deadline_covers_the_waiting_and_the_call(door, servers, ask):
    server = servers.open("a")
    channel = door.open(None)
    call = channel.begin("Say", ask(hold=True), wait_for_ready=True, timeout=1.0)
    timer = threading.Timer(0.4, lambda: channel.update(snapshot(at(server))))
    timer.start()
    eventually(lambda: server.received == 1, within=5, what="the request arrived")
    assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    timer.join()
    idle(channel)


# Connectivity


def test_the_channel_is_ready_when_one_endpoint_is(door, servers, ask):
    channel = door.open(["127.0.0.1:1", servers.open("a").target])
    channel.ready()
    assert channel.state() is grpc.ChannelConnectivity.READY
    assert "READY" in repr(channel.raw)
    assert f"<Balancer {SERVICE}: 2 ready, 0 draining, 0 unhealthy | 0 in flight>" in repr(
        channel.raw
    )


def test_a_channel_that_is_dropped_lets_go_of_its_connections(door, servers, ask):
    server = servers.open("a")
    channel = door.open([server.target])
    channel.say(ask(), timeout=5)
    cluster = channel.raw._cluster
    door._channels.clear()
    del channel
    gc.collect()
    eventually(lambda: cluster.availability.closed, within=5, what="the cluster was let go")
    stays(lambda: cluster.balancer.in_flight == 0, seconds=0.1, what="nothing in flight")
