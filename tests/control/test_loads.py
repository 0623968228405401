"""What clients report is added up, whoever they are, and lies stay without effect."""

import asyncio
import contextlib
import json
import logging
import os
import sys
import threading

import grpc
import httpx
import pytest
import yaml
from aiohttp import ClientSession, web
from envoy.service.load_stats.v3 import lrs_pb2, lrs_pb2_grpc
from google.protobuf import duration_pb2

import trimtab
import trimtab.aio
import trimtab.httpx
from harness.envoy import Envoy
from harness.ports import free_port
from plane import QueueSource, eventually, get, pause, running, snapshot, updated
from trimtab.client.bootstrap import Bootstrap
from trimtab.control import metrics
from trimtab.control.bootstraps import Identity, edge_bootstrap, envoy_bootstrap
from trimtab.control.config import Config
from trimtab.control.loads import MAX_ROWS, Loads, evenness
from trimtab.model import Removed, ServicePort, Synced, Updated
from trimtab.telemetry import Counters
from trimtab.xds.catalog import Catalog, Client, ClientKind
from trimtab.xds.load_stats import Load

ORDERS = "orders.shop:8080"
ENVOY = Client(kind=ClientKind.ENVOY)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Scene:
    def __init__(self, *ports):
        self.clock = Clock()
        self.counters = Counters(metrics.METRICS)
        self.catalog = Catalog()
        self.catalog.apply(Updated(snapshot("orders", *ports)))
        self.catalog.apply(Synced())
        self.loads = Loads(self.catalog, self.counters, self.clock)

    def report(self, port, requests, *, client=ENVOY, cluster=ORDERS, errors=0, in_flight=0):
        load = Load(
            cluster, "z1", f"127.0.0.1:{port}", requests, errors, in_flight, 10.0, clamped=False
        )
        self.loads.take(client, [load])

    def refused(self, reason):
        return self.counters.get(metrics.LOADS_REFUSED, reason)


def test_evenness_is_one_and_zero_where_all_get_the_same_and_grows_with_the_difference():
    assert evenness([5.0, 5.0, 5.0]) == (1.0, 0.0)
    assert evenness([0.0, 10.0]) == (2.0, 1.0)
    assert evenness([]) is None
    assert evenness([0.0, 0.0]) is None


def test_reports_of_all_clients_add_up_per_endpoint_and_idle_endpoints_count():
    scene = Scene(1, 2, 3)
    scene.report(1, 100, errors=10, in_flight=4)
    scene.report(1, 50, client=Client(kind=ClientKind.TRIMTAB))
    scene.report(2, 150)
    (one,) = scene.loads.view()
    assert one["requests_per_second"] == pytest.approx(30.0)
    assert one["errors_per_second"] == pytest.approx(1.0)
    assert one["in_flight"] == pytest.approx(4.0)
    assert one["max_to_mean"] == pytest.approx(1.5)  # 15, 15 and 0 requests/s
    scene.loads.measure()
    assert scene.counters.get(metrics.LOAD_MAX_TO_MEAN, ORDERS) == pytest.approx(1.5)
    totals = {
        labels[2:]: n
        for metric, values in scene.counters
        if metric.name == metrics.LOAD_REQUESTS
        for labels, n in values.items()
    }
    assert totals == {
        ("127.0.0.1:1", "envoy"): 100,
        ("127.0.0.1:1", "trimtab"): 50,
        ("127.0.0.1:2", "envoy"): 150,
        ("127.0.0.1:3", "envoy"): 0,
    }


def test_requests_in_flight_are_a_metric_per_endpoint_and_kind_of_client():
    scene = Scene(1, 2)

    def in_flight(port, kind):
        scene.loads.measure()
        where = (ORDERS, "z1", f"127.0.0.1:{port}", kind)
        return scene.counters.get(metrics.LOAD_IN_FLIGHT, *where)

    scene.report(1, 100, in_flight=4)
    scene.report(1, 100, client=Client(kind=ClientKind.TRIMTAB), in_flight=2)
    assert in_flight(1, "envoy") == pytest.approx(4.0)
    assert in_flight(1, "trimtab") == pytest.approx(2.0)
    scene.clock.now += 10
    scene.report(1, 100, in_flight=8)
    assert in_flight(1, "envoy") == pytest.approx(6.0)  # 4 for ten seconds, then 8
    scene.clock.now += 71  # nobody has said anything since
    assert in_flight(1, "envoy") == 0.0


def test_what_is_older_than_a_minute_counts_in_totals_only():
    scene = Scene(1)
    scene.report(1, 600)
    scene.clock.now += 61
    assert scene.loads.rates() == {}
    scene.loads.measure()
    assert scene.counters.get(metrics.LOAD_REQUESTS, ORDERS, "z1", "127.0.0.1:1", "envoy") == 600


def test_what_no_longer_exists_is_forgotten_though_nobody_reads_what_is_added_up():
    scene = Scene(1)
    for i in range(100):
        service = f"job{i}"
        scene.catalog.apply(Updated(snapshot(service, 2)))
        scene.report(2, 10, cluster=f"{service}.shop:8080")
        # Refused; its cluster was looked at all the same.
        scene.report(99, 10, cluster=f"{service}.shop:8080")
        scene.catalog.apply(Removed(f"{service}.shop:8080"))
        scene.clock.now += 10
        scene.report(1, 10)
    tables = (scene.loads._first, scene.loads._places, scene.loads._totals)
    assert max(map(len, tables)) <= 60 / 10 + 2  # those of the last minute, and the one that stays


def test_unknown_clusters_and_endpoints_leave_no_trace_but_a_count():
    scene = Scene(1)
    scene.report(1, 5, cluster="nosuch.shop:8080")
    scene.report(99, 5)
    assert scene.loads.view() == []
    assert scene.refused("unknown_cluster") == scene.refused("unknown_endpoint") == 1


def test_a_report_about_a_cluster_that_the_client_may_not_see_is_as_of_an_unknown_one():
    class Nobody:
        def sees(self, service: ServicePort | None):
            return False

    scene = Scene(1)
    scene.report(1, 5, client=Client(kind=ClientKind.ENVOY, audience=Nobody()))
    assert scene.loads.view() == []
    assert scene.refused("unknown_cluster") == 1


def test_no_more_rows_are_kept_than_the_limit():
    scene = Scene(*range(1, MAX_ROWS + 2))
    for port in range(1, MAX_ROWS + 2):
        scene.report(port, 1)
    assert len(scene.loads.rates()) == MAX_ROWS
    assert scene.refused("rows") == 1


def test_what_is_gone_is_forgotten():
    scene = Scene(1, 2)
    scene.report(1, 5)
    scene.report(2, 5)
    scene.catalog.apply(Updated(snapshot("orders", 1)))
    assert [row.address for row in scene.loads.rates()] == ["127.0.0.1:1"]
    scene.catalog.apply(Removed(ORDERS))
    scene.loads.measure()
    assert scene.loads.view() == []


async def test_a_stub_that_lies_harms_nobody_and_garbage_ends_its_own_stream(caplog):
    caplog.set_level(logging.ERROR)
    source = QueueSource(updated("orders", 1), Synced())
    async with running(source) as plane:
        await plane.store.synced.wait()
        async with grpc.aio.insecure_channel(str(plane.xds_address)) as channel:
            call = lrs_pb2_grpc.LoadReportingServiceStub(channel).StreamLoadStats()
            hello = lrs_pb2.LoadStatsRequest()
            hello.node.user_agent_name = "gRPC C-core"
            await call.write(hello)
            assert (await call.read()).report_endpoint_granularity
            lie = lrs_pb2.LoadStatsRequest()
            stats = lie.cluster_stats.add(
                cluster_name=ORDERS, load_report_interval=duration_pb2.Duration(seconds=10)
            )
            zone = stats.upstream_locality_stats.add(total_successful_requests=2**64 - 1)
            zone.locality.zone = "z1"
            await call.write(lie)
            refused = plane.counters.get
            await eventually(lambda: refused(metrics.LOADS_REFUSED, "clamped") == 1)
            raw = channel.stream_stream(
                "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats"
            )()
            await raw.write(b"\xff\xff\xff")
            assert await raw.code() is grpc.StatusCode.INVALID_ARGUMENT
            status, _, text = await get(plane.admin_address, "/metrics")
            assert status == 200
            assert f'cluster="{ORDERS}"' in text
            call.cancel()


def reported(plane, counter=metrics.LOAD_REQUESTS):
    plane.server.loads.measure()
    return sum(
        n
        for metric, values in plane.counters
        if metric.name == counter
        for labels, n in values.items()
        if labels[2]
    )


def printed_envoy(form, server, tmp_path):
    """What ``trimtab bootstrap --for envoy`` prints, with a listener, on free ports: its address, text."""
    address = f"127.0.0.1:{free_port()}"
    path = tmp_path / "routes.yaml"
    route = {"service": ORDERS}
    admin = f"127.0.0.1:{free_port()}"
    path.write_text(yaml.safe_dump({"listeners": [address], "admin": admin, "routes": [route]}))
    identity = Identity("reporter")
    edge = edge_bootstrap(server, identity, path, endpoints_only=form == "endpoints only")
    if form != "plain":
        return address, edge
    plain, edge = yaml.safe_load(envoy_bootstrap(server, identity)), yaml.safe_load(edge)
    plain["admin"] = edge["admin"]
    plain["static_resources"]["listeners"] = edge["static_resources"]["listeners"]
    return address, json.dumps(plain)


@pytest.mark.parametrize("form", ["plain", "edge", "endpoints only"])
async def test_envoy_reports_each_endpoint_as_its_printed_bootstrap_says_and_the_page_how_even(
    tmp_path, form
):
    async def answer(_request):
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    sites = [web.TCPSite(runner, "127.0.0.1", 0) for _ in range(2)]
    for site in sites:
        await site.start()
    ports = [port for _, port in runner.addresses]
    source = QueueSource(updated("orders", *ports, port_name="http"), Synced())
    # What asks native gRPC to report must not make Envoy reject the cluster: `stop` looks.
    config = Config(load_reports=True)
    async with running(source, config=config, load_interval_s=0.2) as plane:
        listener, printed = printed_envoy(form, plane.xds_address, tmp_path)
        envoy = Envoy("reporter", printed, tmp_path)
        try:
            await asyncio.to_thread(envoy.wait_ready)
            await asyncio.to_thread(envoy.wait_cluster, ORDERS)
            async with ClientSession() as session, asyncio.timeout(10):
                # What it did with a cluster before it was told to report it, Envoy does not say.
                while reported(plane) < 40:
                    async with session.get(f"http://{listener}/") as response:
                        assert response.status == 200
            _, _, body = await get(plane.admin_address, "/api/v1/load")
        finally:
            await asyncio.to_thread(envoy.stop)
            await runner.cleanup()
    (one,) = body["clusters"]
    assert one["cluster"] == ORDERS
    assert {row["endpoint"] for row in one["rows"]} == {f"127.0.0.1:{port}" for port in ports}
    assert {row["client"] for row in one["rows"]} == {"envoy"}
    assert 1 <= one["max_to_mean"] < 1.5


@contextlib.asynccontextmanager
async def backends(count):
    """Servers that answer, or fail where the request says so: their ports."""

    async def answer(request, context):
        if request == b"fail":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "as asked")
        return request

    handler = grpc.unary_unary_rpc_method_handler(answer)
    servers, ports = [], []
    for _ in range(count):
        server = grpc.aio.server()
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("any", {"Call": handler}),)
        )
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        servers.append(server)
    try:
        yield ports
    finally:
        for server in servers:
            await server.stop(None)


def many_calls(address, enough):
    """Calls through a blocking channel, a tenth of which fails."""
    with trimtab.insecure_channel(
        "xds:///orders.shop:8080", bootstrap=Bootstrap.of(str(address))
    ) as channel:
        call = channel.unary_unary("/any/Call")
        while not enough.is_set():
            for n in range(10):
                with contextlib.suppress(grpc.RpcError):
                    call(b"hello" if n else b"fail", timeout=10, wait_for_ready=True)


async def test_trimtab_clients_report_each_endpoint_with_errors_and_latency():
    async with backends(3) as ports:
        source = QueueSource(updated("orders", *ports), Synced())
        async with running(source, load_interval_s=1.0) as plane:
            enough = threading.Event()
            calling = asyncio.create_task(asyncio.to_thread(many_calls, plane.xds_address, enough))
            try:
                await eventually(lambda: reported(plane) >= 100, within=15)
                _, _, body = await get(plane.admin_address, "/api/v1/load")
                errors, requests = reported(plane, metrics.LOAD_ERRORS), reported(plane)
            finally:
                enough.set()
                await calling
    (one,) = body["clusters"]
    assert {row["endpoint"] for row in one["rows"]} == {f"127.0.0.1:{port}" for port in ports}
    assert {row["client"] for row in one["rows"]} == {"trimtab"}
    assert {row["zone"] for row in one["rows"]} == {"z1"}
    # One more or less of 100 or more; the rates are those of the last second, which may have few.
    assert errors / requests == pytest.approx(0.1, abs=0.02)
    assert one["errors_per_second"] < one["requests_per_second"]
    assert 0 < one["latency_seconds"] < 1
    assert all(row["latency_seconds"] > 0 for row in one["rows"])
    assert one["max_to_mean"] < 2.0


async def test_reports_go_on_at_the_next_control_plane_when_one_has_gone():
    """Through an asyncio channel; the second listens where the first did."""

    def source():
        return QueueSource(updated("orders", *ports), Synced())

    async def call_for_ever(address):
        bootstrap = Bootstrap.of(str(address))
        async with trimtab.aio.insecure_channel(
            "xds:///orders.shop:8080", bootstrap=bootstrap
        ) as channel:
            call = channel.unary_unary("/any/Call")
            while True:
                assert await call(b"hello", timeout=10, wait_for_ready=True) == b"hello"
                await pause()

    async with backends(2) as ports:
        async with running(source(), load_interval_s=1.0) as plane:
            calling = asyncio.create_task(call_for_ever(plane.xds_address))
            await eventually(lambda: reported(plane) >= 10 or calling.done(), within=15)
        try:
            async with running(source(), load_interval_s=1.0, xds=plane.xds_address) as second:
                await eventually(lambda: reported(second) >= 10 or calling.done(), within=20)
                (one,) = second.server.loads.view()
        finally:
            calling.cancel()
            await asyncio.gather(calling, return_exceptions=True)
    assert calling.cancelled()
    assert {row["endpoint"] for row in one["rows"]} == {f"127.0.0.1:{port}" for port in ports}


async def test_http_clients_report_as_well():
    async def answer(request):
        return web.Response(status=int(request.query["status"]))

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]

    def get_for_ever(address, enough):
        transport = trimtab.httpx.Transport(["*.shop"], bootstrap=Bootstrap.of(str(address)))
        with httpx.Client(transport=transport) as client:
            while not enough.is_set():
                for status in (200, 404, 503):
                    url = f"http://orders.shop:8080/?status={status}"
                    assert client.get(url).status_code == status

    enough = threading.Event()
    source = QueueSource(updated("orders", port, port_name="http"), Synced())
    async with running(source, load_interval_s=1.0) as plane:
        getting = asyncio.create_task(asyncio.to_thread(get_for_ever, plane.xds_address, enough))
        try:
            await eventually(lambda: reported(plane) >= 30 or getting.done(), within=15)
        finally:
            enough.set()
            await getting
        (one,) = plane.server.loads.view()
        errors, requests = reported(plane, metrics.LOAD_ERRORS), reported(plane)
    await runner.cleanup()
    # What the caller asked wrongly is no error of the endpoint's. Of all reports: the last one may be of two requests.
    assert 0 < errors < 0.5 * requests
    assert one["latency_seconds"] > 0


_NATIVE = """
import sys, grpc
with grpc.insecure_channel("xds:///orders.shop:8080") as channel:
    call = channel.unary_unary("/any/Call")
    for _ in range(20):
        assert call(b"hello", timeout=10) == b"hello"
    print("called", flush=True)
    sys.stdin.readline()
"""


async def test_native_grpc_reports_its_zone_where_the_configuration_asks_for_it():
    async def echo(request, _context):
        return request

    backend = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(echo)
    backend.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("any", {"Call": handler}),)
    )
    port = backend.add_insecure_port("127.0.0.1:0")
    await backend.start()
    source = QueueSource(updated("orders", port), Synced())
    config = Config(load_reports=True)
    async with running(source, config=config, load_interval_s=1.0) as plane:
        bootstrap = {
            "xds_servers": [
                {
                    "server_uri": str(plane.xds_address),
                    "channel_creds": [{"type": "insecure"}],
                    "server_features": ["xds_v3"],
                }
            ],
            "node": {"id": "native"},
        }
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _NATIVE),
            env={**os.environ, "GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(20):
                assert await client.stdout.readline() == b"called\n"
            await eventually(plane.server.loads.rates, within=20)
            (row,) = plane.server.loads.rates()
            client.stdin.write(b"end\n")
            async with asyncio.timeout(10):
                assert await client.wait() == 0
        finally:
            if client.returncode is None:
                client.kill()
                await client.wait()
    await backend.stop(None)
    assert row == (ORDERS, "z1", "", "grpc")
