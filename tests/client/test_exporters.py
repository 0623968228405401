"""``trimtab.prometheus`` and ``trimtab.otel``: what they export of real calls, over every door."""

import grpc
import prometheus_client
import pytest
from opentelemetry.trace import SpanKind, StatusCode

import http_doors
import trimtab
import trimtab.otel
import trimtab.prometheus
from doors import loop, threads
from harness.ports import free_port
from harness.waiting import eventually
from http_servers import HttpServers
from trimtab.testing import ControlPlane

DOORS = {**threads.DOORS, **loop.DOORS}
SERVICE, METHOD = "orders.shop:80", "trimtab.test.Echo/Say"

# See test_doors.
pytestmark = [
    pytest.mark.processes,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


@pytest.fixture(params=DOORS)
def make_door(request, echo):
    made = []

    def make():
        made.append(DOORS[request.param](echo))
        return made[-1]

    yield make
    for door in made:
        door.close()


def test_prometheus_counts_and_times_every_attempt(make_door, registry, servers, echo):
    opened = servers.open("a", "b")
    channel = make_door().open([s.target for s in opened], policy="round_robin")
    for _ in range(4):
        channel.say(echo[0].Request(), timeout=10)
    assert channel.begin("Say", echo[0].Request(fail_with=5), timeout=10).code() is (
        grpc.StatusCode.NOT_FOUND
    )
    channel.count(echo[0].Request(replies=2), timeout=10)

    def of(name, **labels):
        return registry.get_sample_value(name, {"grpc_target": SERVICE, **labels})

    # gRPC calls back at the end of a call when its caller may already have it.
    calls = "grpc_client_call_duration_seconds_count"
    eventually(
        lambda: of(calls, grpc_status="OK", grpc_method="trimtab.test.Echo/Count") == 1,
        within=10,
        what="the stream has ended",
    )
    assert of("grpc_client_attempt_started_total", grpc_method=METHOD) == 5
    duration = "grpc_client_attempt_duration_seconds_count"
    where = {"grpc_method": METHOD, "grpc_lb_locality": ""}
    assert of(duration, grpc_status="OK", **where) == 4
    assert of(duration, grpc_status="NOT_FOUND", **where) == 1
    assert of(calls, grpc_status="OK", grpc_method=METHOD) == 4
    eventually(lambda: of("grpc_subchannel_open_connections") == 2, within=10, what="both are")

    def of_each(name):
        where = [{"service": SERVICE, "endpoint": s.target, "zone": ""} for s in opened]
        return [registry.get_sample_value(f"trimtab_client_endpoint_{name}", w) for w in where]

    assert sum(of_each("requests_total")) == 6
    eventually(lambda: of_each("in_flight") == [0, 0], within=10, what="nothing is in flight")
    channel.close()
    assert of_each("requests_total") == [None, None]


def test_a_cancelled_call_ends_as_cancelled(make_door, registry, servers, echo):
    server = servers.open("a")
    channel = make_door().open([server.target])
    call = channel.begin("Say", echo[0].Request(hold=True), timeout=10)
    eventually(lambda: server.holding == 1, within=10, what="it is there")
    call.cancel()

    def ended():
        return registry.get_sample_value(
            "grpc_client_attempt_duration_seconds_count",
            {
                "grpc_target": SERVICE,
                "grpc_method": METHOD,
                "grpc_lb_locality": "",
                "grpc_status": "CANCELLED",
            },
        )

    eventually(lambda: ended() == 1, within=10, what="its end is counted")


def fail(_request, context):
    context.abort(grpc.StatusCode.UNAVAILABLE, "no")


def test_a_retried_call_is_one_call_of_two_attempts(make_door, otel, servers, echo):
    bad, good = servers.open("a", "b")
    bad._answer = fail
    channel = make_door().open(
        [bad.target, good.target], policy="round_robin", retry=trimtab.Retry(on=["UNAVAILABLE"])
    )
    eventually(
        lambda: sum(n.connected for n in channel.balancer.nodes.values()) == 2,
        within=10,
        what="both are connected",
    )
    tracer = otel.traces.get_tracer("test")

    def call():
        before = bad_calls()
        assert channel.say(echo[0].Request(), timeout=10).server == "b"
        return bad_calls() > before

    def bad_calls():
        return len([s for s in otel.spans() if s.attributes["network.peer.port"] == bad.port])

    with tracer.start_as_current_span("test"):
        calls = 1
        while not call():
            calls += 1
            assert calls < 5
    first, second = otel.spans()[calls - 1 : calls + 1]
    assert [s.attributes["trimtab.attempt"] for s in (first, second)] == [1, 2]
    assert [s.attributes["network.peer.port"] for s in (first, second)] == [bad.port, good.port]
    assert [s.attributes["trimtab.reason"] for s in (first, second)] == [
        "round_robin, of 2",
        "round_robin, of 2, apart from earlier attempts",
    ]
    assert [s.status.status_code for s in (first, second)] == [StatusCode.ERROR, StatusCode.UNSET]
    by_status = {
        p.attributes["grpc.status"]: p.count for p in otel.points("grpc.client.attempt.duration")
    }
    assert by_status == {"OK": calls, "UNAVAILABLE": 1}
    (done,) = otel.points("grpc.client.call.duration")
    assert (done.attributes["grpc.status"], done.count) == ("OK", calls)


def test_a_span_is_a_child_of_the_current_one_and_names_the_endpoint(echo, otel, servers):
    server = servers.open("a")
    with (
        trimtab.insecure_channel(
            "orders.shop:80",
            endpoints=[
                trimtab.Endpoint("127.0.0.1", server.port, locality=trimtab.Locality(zone="z1"))
            ],
        ) as channel,
        otel.traces.get_tracer("test").start_as_current_span("outer"),
    ):
        echo[1].EchoStub(channel).Say(echo[0].Request(), timeout=10, wait_for_ready=True)
    inner, outer = otel.spans()
    assert inner.parent.span_id == outer.context.span_id
    assert (inner.name, inner.kind) == (METHOD, SpanKind.CLIENT)
    assert dict(inner.attributes) == {
        "server.address": "orders.shop",
        "server.port": 80,
        "network.peer.address": "127.0.0.1",
        "network.peer.port": server.port,
        "trimtab.zone": "z1",
        "trimtab.attempt": 1,
        "trimtab.reason": "token, of 1",
        "rpc.system.name": "grpc",
        "rpc.method": METHOD,
        "rpc.response.status_code": "OK",
    }
    assert outer.start_time <= inner.start_time <= inner.end_time <= outer.end_time


def test_a_channel_s_state_is_read_by_opentelemetry(make_door, otel, servers, echo):
    server = servers.open("a")
    channel = make_door().open([server.target])
    for n in (1, 2):  # every collection reads anew
        channel.say(echo[0].Request(), timeout=10)
        found = {
            p.attributes["endpoint"]: p.value
            for p in otel.points("trimtab.client.endpoint.requests")
        }
        assert found[server.target] == n


def test_both_exporters_say_how_much_left_the_client_s_zone(
    make_door, registry, otel, servers, echo
):
    here, there = servers.open("a", "b")
    endpoints = [
        trimtab.Endpoint("127.0.0.1", server.port, locality=trimtab.Locality(zone=zone))
        for zone, server in (("z1", here), ("z2", there))
    ]
    policy = trimtab.PolicyConfig.of("round_robin", zone="off")
    channel = make_door().open(endpoints, policy=policy, locality="z1")
    eventually(
        lambda: sum(n.connected for n in channel.balancer.nodes.values()) == 2,
        within=10,
        what="both are connected",
    )

    def told_prometheus(to):
        where = {"service": SERVICE, "to": to}
        return registry.get_sample_value("trimtab_client_zone_requests_total", where)

    def told_otel():
        return {
            p.attributes["to"]: p.value
            for p in otel.points("trimtab.client.zone_requests")
            if p.attributes["service"] == SERVICE
        }

    before = told_otel()  # those of earlier channels are counted on
    for _ in range(4):
        channel.say(echo[0].Request(), timeout=10)
    told = told_otel()
    assert {to: told[to] - before.get(to, 0) for to in ("own", "other")} == {"own": 2, "other": 2}
    assert {to: told_prometheus(to) for to in told} == told


def test_both_exporters_say_how_the_control_plane_does(registry, otel):
    with ControlPlane() as plane:
        plane.set("orders.shop:80", ["127.0.0.1:1"])
        with trimtab.insecure_channel("orders.shop:80", bootstrap=plane.bootstrap()):
            eds = {"resource_type": "envoy.config.endpoint.v3.ClusterLoadAssignment"}

            def of(name, **labels):
                where = {"grpc_xds_server": plane.address}
                where |= {f"grpc_xds_{k}": v for k, v in labels.items()}
                return registry.get_sample_value(f"grpc_xds_client_{name}", where)

            def dotted(name):
                return {
                    p.attributes.get("grpc.xds.resource_type", ""): p.value
                    for p in otel.points(f"grpc.xds_client.{name}")
                    if p.attributes["grpc.xds.server"] == plane.address
                }

            eventually(
                lambda: of("resource_updates_valid_total", **eds) == 1, within=10, what="it is told"
            )
            assert of("resource_updates_invalid_total", **eds) == 0
            assert (of("connected"), of("server_failure_total")) == (1, 0)
            assert dotted("resource_updates_valid")[eds["resource_type"]] == 1
            assert (dotted("connected"), dotted("server_failure")) == ({"": 1}, {"": 0})
            plane.stop()
            eventually(lambda: of("connected") == 0, within=20, what="it is found to be gone")
            assert of("server_failure_total") == 1


def test_what_is_not_installed_is_not_asked(make_door, servers, echo):
    server = servers.open("a")
    channel = make_door().open([server.target])
    registry = prometheus_client.CollectorRegistry()
    remove = trimtab.prometheus.install(registry)
    try:
        channel.say(echo[0].Request(), timeout=10)  # it was made before
        assert "grpc_client_attempt_started_total{" not in (
            prometheus_client.generate_latest(registry).decode()
        )
    finally:
        remove()
    assert prometheus_client.generate_latest(registry) == b""


def test_installing_twice_says_so(registry):
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        trimtab.prometheus.install(registry)


@pytest.mark.parametrize("kind", http_doors.DOORS, ids=lambda door: door.__name__)
async def test_http_requests_are_timed_and_traced(kind, registry, otel):
    servers = HttpServers()
    client = None
    try:
        live = servers.open("a")
        live.status["/no"] = 404
        client = kind(endpoints={"orders.shop:8080": [live.target]})
        for path in ("/", "/", "/no"):
            await client.send("GET", f"http://orders.shop:8080{path}")
    finally:
        if client is not None:
            await client.close()
        servers.close()
    where = {
        "http_request_method": "GET",
        "server_address": "orders.shop",
        "server_port": "8080",
    }
    count = "http_client_request_duration_seconds_count"
    good = {**where, "http_response_status_code": "200", "error_type": ""}
    assert registry.get_sample_value(count, good) == 2
    bad = {**where, "http_response_status_code": "404", "error_type": "404"}
    assert registry.get_sample_value(count, bad) == 1
    points = otel.points("http.client.request.duration")
    assert sorted((p.attributes["http.response.status_code"], p.count) for p in points) == [
        (200, 2),
        (404, 1),
    ]
    last = otel.spans()[-1]
    assert last.attributes["http.request.method"] == "GET"
    assert last.attributes["http.response.status_code"] == 404
    assert last.attributes["network.peer.port"] == live.port


@pytest.mark.parametrize("kind", http_doors.DOORS, ids=lambda door: door.__name__)
async def test_an_http_attempt_that_reached_nobody_is_counted_as_such(kind, registry):
    client = kind(endpoints={"orders.shop:8080": [f"127.0.0.1:{free_port()}"]})
    try:
        with pytest.raises(client.errors):
            await client.send("GET", "http://orders.shop:8080/")
    finally:
        await client.close()
    lost = {
        "http_request_method": "GET",
        "server_address": "orders.shop",
        "server_port": "8080",
        "http_response_status_code": "",
        "error_type": "UNREACHED",
    }
    assert registry.get_sample_value("http_client_request_duration_seconds_count", lost) >= 1
