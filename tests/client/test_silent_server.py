"""Servers that stop without a word: frozen, cut off, never greeting, always saying goodbye."""

import socket

import grpc
import pytest
import trustme

import trimtab
from doors import loop, threads
from doors.calling import CALLERS, Load, connected, node_at
from doors.servers import EchoServer
from doors.silencers import CutOff, Frozen
from doors.victim import Victims
from harness.waiting import Deadline, eventually, pause

DOORS = {**threads.DOORS, **loop.DOORS}
GIVEN_UP_WITHIN_S = 12  # of the channel's opening: 2 s by our time out, 20 s by gRPC's own

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


@pytest.fixture(scope="module")
def victim(echo):
    """One process for the module: it is frozen and thawed, never harmed."""
    victims = Victims(echo)
    yield victims.start()
    victims.close()


@pytest.fixture(params=[Frozen, CutOff])
def silencer(request, victim):
    made = request.param(victim)
    yield made
    made.close()


def test_a_policy_that_does_not_look_at_endpoints_leaves_a_silent_one_out_all_the_same(
    door, silencer, servers, echo
):
    three = servers.open("a", "b", "c")
    channel = door.open(
        [*(s.target for s in three), f"127.0.0.1:{silencer.port}"], policy="round_robin"
    )
    connected(channel, 4)
    node = node_at(channel, silencer.port)
    request = echo[0].Request
    running = []

    def noticed():
        running.append(channel.begin("Say", request(), timeout=60))
        pause(0.005)
        return channel.balancer.is_silent(node)

    for _ in range(8):
        channel.say(request(), timeout=10)
    silencer.fall_silent()
    try:
        eventually(noticed, within=15, what="it is noticed")
        sent = node.picks
        assert "victim" not in [channel.say(request(), timeout=10).server for _ in range(200)]
        assert node.picks == sent
    finally:
        silencer.speak()
    assert all(call.code() is grpc.StatusCode.OK for call in running)
    eventually(
        lambda: channel.say(request(), timeout=10).server == "victim",
        within=15,
        what="it is used again",
    )


def test_a_server_that_falls_silent_gets_no_new_requests_and_is_used_again_when_it_speaks(
    door, silencer, servers, echo
):
    three = servers.open("a", "b", "c")
    channel = door.open([*(s.target for s in three), f"127.0.0.1:{silencer.port}"])
    connected(channel, 4)
    node = node_at(channel, silencer.port)
    load = Load(channel, echo[0].Request)
    try:
        eventually(lambda: "victim" in load.replies, within=15, what="the victim has load")
        silencer.fall_silent()

        def left_alone():
            before = node.picks
            load.more(600)
            return node.picks == before

        eventually(left_alone, within=15, what="it is noticed")
        sent = node.picks
        assert "victim" not in load.more(1000)
        assert node.picks == sent
        assert 0 < node.in_flight < CALLERS  # the others were never held up
        silencer.speak()
        eventually(lambda: not channel.balancer.is_silent(node), within=15, what="it is forgiven")
        eventually(lambda: "victim" in load.more(20), within=15, what="it is used again")
    finally:
        silencer.speak()
        load.stop()
    assert load.errors == []


def test_a_busy_server_is_asked_and_keeps_getting_requests(door, servers, echo):
    slow, other = servers.open("slow", "other")
    channel = door.open([slow.target, other.target])
    connected(channel, 2)
    request = echo[0].Request
    held = []
    while slow.holding == 0:  # a call that takes long, and nothing else from that server
        held.append(channel.begin("Count", request(replies=1)))
        held.append(channel.begin("Say", request(hold=True)))
        pause()
    load = Load(channel, request)
    try:
        load.more(200)
        eventually(lambda: "slow" in load.more(20), within=15, what="the slow one is used")
        node = node_at(channel, slow.port)
        eventually(lambda: not channel.balancer.is_silent(node), within=20, what="it is forgiven")
    finally:
        load.stop()
        slow.let_go.set()
        other.let_go.set()
    assert load.errors == []


def test_streams_that_are_cut_after_a_message_make_nobody_silent(servers, echo):
    two = servers.open("a", "b")
    targets = [s.target for s in two]
    with trimtab.insecure_channel("orders", endpoints=targets, policy="round_robin") as channel:
        stub = echo[1].EchoStub(channel)
        for _ in range(12):
            request = echo[0].Request(replies=1, hold=True)
            call = stub.Count(request, timeout=30, wait_for_ready=True)
            next(call)
            pause(0.06)
            call.cancel()
        for server in two:
            server.let_go.set()
        assert channel.trimtab._stack.stalls.found == 0


def test_servers_that_end_every_connection_soon_fail_no_request(door, servers, echo):
    options = [("grpc.max_connection_age_ms", 100)]
    three = [EchoServer(echo, name, options=options) for name in "abc"]
    channel = door.open([s.target for s in three])
    connected(channel, 3)
    load = Load(channel, echo[0].Request)
    try:
        load.more(1500)
    finally:
        load.stop()
        for server in three:
            server.stop()
    assert load.errors == []


def given_up(channel, port, since):
    node = node_at(channel, port)
    eventually(lambda: node.transport.failing, within=20, what="it is given up")
    assert not since.passed, since.elapsed


def test_a_server_that_never_greets_gets_no_requests_and_is_given_up_soon(door, servers, echo):
    deaf = socket.create_server(("127.0.0.1", 0))
    try:
        port = deaf.getsockname()[1]
        good = servers.open("good")
        since = Deadline(GIVEN_UP_WITHIN_S)
        channel = door.open([good.target, f"127.0.0.1:{port}"])
        connected(channel, 1)
        assert {channel.say(echo[0].Request(), timeout=10).server for _ in range(50)} == {"good"}
        given_up(channel, port, since)
        assert {channel.say(echo[0].Request(), timeout=10).server for _ in range(50)} == {"good"}
        assert node_at(channel, port).picks == 0
    finally:
        deaf.close()


def test_tls_that_never_completes_holds_up_nobody(door, echo):
    authority = trustme.CA()
    certificate = authority.issue_cert("orders.shop")
    credentials = grpc.ssl_server_credentials(
        [
            (
                certificate.private_key_pem.bytes(),
                b"".join(blob.bytes() for blob in certificate.cert_chain_pems),
            )
        ]
    )
    good = EchoServer(echo, "good", credentials=credentials)
    deaf = socket.create_server(("127.0.0.1", 0))
    try:
        port = deaf.getsockname()[1]
        since = Deadline(GIVEN_UP_WITHIN_S)
        channel = door.open(
            [good.target, f"127.0.0.1:{port}"],
            credentials=grpc.ssl_channel_credentials(authority.cert_pem.bytes()),
            options=[("grpc.ssl_target_name_override", "orders.shop")],
        )
        connected(channel, 1)
        assert {channel.say(echo[0].Request(), timeout=10).server for _ in range(50)} == {"good"}
        given_up(channel, port, since)
        assert node_at(channel, port).picks == 0
    finally:
        deaf.close()
        good.stop()
