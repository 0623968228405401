"""``trimtab.call_details``: which endpoint served a call, and why, over every door."""

import contextlib
from random import Random

import grpc
import pytest

import http_doors
import trimtab
from doors import loop, threads
from doors.servers import EchoServer
from harness.waiting import eventually
from http_servers import HttpServers
from trimtab.balancer import Balancer, Node
from trimtab.client.attempts import Visit, sent
from trimtab.client.call_details import MOST, WANTED, joined
from trimtab.client.observing import Sent
from trimtab.model import Endpoint, Snapshot

DOORS = {**threads.DOORS, **loop.DOORS}

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


def in_details(channel, door, call):
    """What ``call`` leaves in the details: the context is the one that the call is made in."""
    if not hasattr(channel, "run"):
        with trimtab.call_details() as found:
            call()
        return found

    async def within():
        with trimtab.call_details() as found:
            await call()
        return found

    return channel.run(within())


class Refusing(EchoServer):
    """Refuses streams."""

    def Count(self, _request, context):  # noqa: N802 - gRPC's name
        context.abort(grpc.StatusCode.UNAVAILABLE, "no")


def count(channel, door, request, **more):
    if hasattr(channel, "run"):

        async def call():
            async for _reply in channel.stub.Count(request, **more):
                pass

        return in_details(channel, door, call)
    return in_details(channel, door, lambda: channel.count(request, **more))


def say(channel, door, request, **more):
    if hasattr(channel, "run"):

        async def call():
            with contextlib.suppress(grpc.aio.AioRpcError):
                await channel.stub.Say(request, **more)

        return in_details(channel, door, call)

    def call():
        with contextlib.suppress(grpc.RpcError):
            channel.say(request, **more)

    return in_details(channel, door, call)


def assert_told(found, *attempts):
    """gRPC calls back at the end of a call when its caller may already have it."""
    eventually(
        lambda: [(each.endpoint.port, each.number, each.status) for each in found] == [*attempts],
        within=10,
        what=f"{attempts} are told",
    )


def test_a_call_tells_its_endpoint_and_reason(door, servers, echo):
    server = servers.open("a")
    target = trimtab.Endpoint("127.0.0.1", server.port, locality=trimtab.Locality(zone="z1"))
    channel = door.open([target], policy="round_robin")
    (seen,) = say(channel, door, echo[0].Request(), timeout=10, wait_for_ready=True)
    assert (seen.service, seen.method) == ("orders.shop:80", "trimtab.test.Echo/Say")
    assert (seen.endpoint.port, seen.zone, seen.number) == (server.port, "z1", 1)
    assert (seen.reason, seen.status) == ("round_robin, of 1", "OK")
    (failed,) = say(channel, door, echo[0].Request(fail_with=5), timeout=10)
    assert failed.status == "NOT_FOUND"
    assert WANTED.now == 0


def test_every_attempt_of_a_retried_call_is_told(door, servers, echo):
    bad, good = servers.open("a", "b")
    bad._answer = lambda _request, context: context.abort(grpc.StatusCode.UNAVAILABLE, "no")
    channel = door.open(
        [bad.target, good.target], policy="round_robin", retry=trimtab.Retry(on=["UNAVAILABLE"])
    )
    eventually(
        lambda: sum(n.connected for n in channel.balancer.nodes.values()) == 2,
        within=10,
        what="both are connected",
    )
    calls = [say(channel, door, echo[0].Request(), timeout=10) for _ in range(3)]
    retried = next(seen for seen in calls if len(seen) > 1)
    assert_told(retried, (bad.port, 1, "UNAVAILABLE"), (good.port, 2, "OK"))
    assert retried[1].reason == "round_robin, of 2, apart from earlier attempts"


def test_every_attempt_of_a_retried_stream_is_told(door, servers, echo):
    bad, good = Refusing(echo, "a"), servers.open("b")
    try:
        channel = door.open(
            [bad.target, good.target], policy="round_robin", retry=trimtab.Retry(backoff_s=0.001)
        )
        eventually(
            lambda: sum(n.connected for n in channel.balancer.nodes.values()) == 2,
            within=10,
            what="both are connected",
        )
        calls = [count(channel, door, echo[0].Request(replies=2), timeout=10) for _ in range(3)]
    finally:
        bad.stop()
    retried = next(seen for seen in calls if len(seen) > 1)
    assert_told(retried, (bad.port, 1, "UNAVAILABLE"), (good.port, 2, "OK"))


def test_a_call_that_waited_for_an_endpoint_is_told_too(echo, servers):
    server = servers.open("a")
    with trimtab.insecure_channel("orders.shop:80", endpoints=[server.target]) as channel:
        with trimtab.call_details() as found:
            call = (
                echo[1]
                .EchoStub(channel)
                .Say.future(echo[0].Request(), timeout=10, wait_for_ready=True)
            )
        call.result()
    eventually(lambda: [s.status for s in found] == ["OK"], within=10, what="its end is told")


def test_outside_of_the_context_nothing_is_told(door, servers, echo):
    channel = door.open([servers.open("a").target])
    with trimtab.call_details() as found:
        pass
    channel.say(echo[0].Request(), timeout=10)
    assert found == []


def test_attempts_that_both_left_before_either_is_told_have_their_own_numbers():
    """Both may have waited for the first endpoint, a hedge of a call and the call itself."""
    balancer = Balancer("orders.shop:80", clock=lambda: 0.0, random=Random(1))
    balancer.update(Snapshot("orders.shop:80", (Endpoint("127.0.0.1", 80),)))
    (node,) = balancer.nodes.values()
    balancer.set_connected(node, connected=True)
    been: list[Node] = []
    visits = [Visit(been), Visit(been)]
    for visit in visits:
        visit.at(balancer.pick())
    told = [sent(balancer, "/a.A/M", node, visit) for visit in visits]
    assert [one.number for one in told] == [1, 2]


def test_a_context_keeps_a_thousand_attempts_and_no_more():
    balancer = Balancer("orders.shop:80", clock=lambda: 0.0, random=Random(1))
    sent = Sent("grpc", balancer, "a.A/M", Endpoint("127.0.0.1", 80))
    with trimtab.call_details() as found:
        asking = joined(None)
        for _ in range(MOST + 1):
            asking.attempt(sent)("OK")
    assert len(found) == MOST


@pytest.mark.parametrize("kind", http_doors.DOORS, ids=lambda door: door.__name__)
async def test_http_requests_are_told(kind):
    servers = HttpServers()
    live = servers.open("a")
    client = kind(endpoints={"orders.shop:8080": [live.target]}, policy="p2c")
    try:
        with trimtab.call_details() as found:
            await client.send("GET", "http://orders.shop:8080/")
    finally:
        await client.close()
        servers.close()
    (seen,) = found
    assert (seen.service, seen.method, seen.status) == ("orders.shop:8080", "GET", "200")
    assert (seen.endpoint.port, seen.reason) == (live.port, "p2c, of 1")
