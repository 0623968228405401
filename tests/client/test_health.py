"""Health by gRPC's own health service, watched on each endpoint's connection."""

import grpc
import pytest

import trimtab
from doors import loop, threads
from doors.calling import Load, connected, node_at
from doors.health import NOT_SERVING, SERVING, HealthService
from harness.waiting import eventually
from trimtab.client.health import paired
from trimtab.errors import ConfigError

DOORS = {**threads.DOORS, **loop.DOORS}
CONFIG = '{"healthCheckConfig": {"serviceName": "shop.Orders"}}'

# See test_doors.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture(params=DOORS)
def door(request, echo):
    made = DOORS[request.param](echo)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({"health": "shop.Orders"}, "shop.Orders"),
        ({"health": ""}, ""),
        ({"options": [("grpc.service_config", CONFIG)]}, "shop.Orders"),
    ],
)
def test_a_server_that_is_not_serving_gets_no_requests_until_it_serves_again_and_none_fails(
    given, asked, door, servers, echo
):
    health = HealthService()
    sick = servers.open("sick", health=health)
    well = servers.open("well")  # has no health service, and counts as healthy
    channel = door.open([sick.target, well.target], policy="round_robin", **given)
    connected(channel, 2)
    node = node_at(channel, sick.port)
    load = Load(channel, echo[0].Request)
    try:
        eventually(lambda: "sick" in load.more(20), within=15, what="both are used")
        health.say(NOT_SERVING)
        eventually(lambda: not node.connected, within=15, what="it is left out")
        load.more(20)  # whatever was on its way has arrived
        received = sick.received
        assert set(load.more(300)) == {"well"}
        assert sick.received == received
        health.say(SERVING)
        eventually(lambda: "sick" in load.more(20), within=15, what="it is used again")
    finally:
        load.stop()
    assert load.errors == []
    assert health.asked == {asked}


def test_a_call_in_flight_outlives_the_change(door, servers, echo):
    health = HealthService()
    server = servers.open("a", health=health)
    channel = door.open([server.target], health="")
    connected(channel, 1)
    call = channel.begin("Say", echo[0].Request(hold=True), timeout=30)
    eventually(lambda: server.holding, within=20, what="it is there")
    health.say(NOT_SERVING)
    eventually(lambda: not node_at(channel, server.port).connected, within=20, what="left out")
    server.let_go.set()
    assert call.code() is grpc.StatusCode.OK


def test_where_no_server_is_healthy_calls_fail_with_that_reason(door, servers, echo):
    health = HealthService()
    health.say(NOT_SERVING)
    server = servers.open("a", health=health)
    channel = door.open([server.target], health="")
    with pytest.raises(grpc.RpcError) as caught:
        channel.say(echo[0].Request(), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert server.target in caught.value.details()
    assert "unhealthy" in caught.value.details()


def test_without_the_keyword_nobody_is_asked(door, servers, echo):
    health = HealthService()
    health.say(NOT_SERVING)
    channel = door.open([servers.open("a", health=health).target])
    assert channel.say(echo[0].Request(), timeout=10).server == "a"
    assert health.asked == set()


def test_health_is_watched_on_the_connection_that_calls_take(door, servers, echo):
    health = HealthService()
    server = servers.open("a", health=health)
    channel = door.open([server.target], health="")
    channel.say(echo[0].Request(), timeout=10)
    eventually(lambda: health.peers, within=20, what="it is watched")
    assert server.peers == health.peers


def test_a_service_config_of_the_callers_stays_that_of_the_calls():
    mine = [("grpc.service_config", "{}"), ("grpc.keepalive_time_ms", 5)]
    calls, watch = map(dict, paired(mine, "orders"))
    assert calls["grpc.service_config"] == "{}"
    assert "orders" in watch["grpc.service_config"]
    del calls["grpc.service_config"], watch["grpc.service_config"]
    assert calls == watch
    assert calls != dict(paired(mine, "orders")[0])  # another endpoint's have another number


@pytest.mark.parametrize("wrong", [True, 5, b"orders"])
def test_health_that_is_no_text_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"channel 'orders': health=.* is no text; give the name"):
        trimtab.insecure_channel("orders", endpoints=["127.0.0.1:1"], health=wrong)
