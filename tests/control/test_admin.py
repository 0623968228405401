import asyncio
import logging

import grpc
import grpc.aio
import pytest

from plane import QueueSource, RawClient, eventually, get, running, updated
from trimtab.control.admin_connections import MOST, MOST_OF_PEER
from trimtab.control.config import ClusterAlias, Config
from trimtab.control.metrics import METRICS
from trimtab.model import Health, Problem, Synced
from trimtab.xds.type_urls import EDS

ORDERS = "orders.shop:8080"


@pytest.fixture
def source():
    return QueueSource(updated("orders", 1, 2), updated("users", 3), Synced())


async def test_readiness_follows_the_first_sync_of_all_sources_and_health_does_not():
    quick, slow = QueueSource(Synced()), QueueSource()
    async with running(quick, slow) as plane:
        await eventually(lambda: plane.store.waiting_for() == ("source-1",))
        status, _, body = await get(plane.admin_address, "/readyz")
        assert status == 503
        assert body["reason"] == "waiting for the first sync of: source-1"
        assert (await get(plane.admin_address, "/healthz"))[0] == 200
        slow.put(Synced())
        await plane.store.synced.wait()
        assert (await get(plane.admin_address, "/readyz"))[0] == 200


async def test_while_draining_it_is_not_ready(source):
    async with running(source, drain_s=0.1) as plane:
        await plane.store.synced.wait()
        await plane.drain()
        status, _, body = await get(plane.admin_address, "/readyz")
        assert status == 503
        assert "shutting down" in body["reason"]


async def test_clusters_show_names_version_counts_zones_endpoints_and_age(source):
    config = Config(
        clusters=(ClusterAlias(name="o-eds", namespace="shop", service="orders", port=8080),)
    )
    async with running(source, config=config) as plane:
        await plane.store.synced.wait()
        status, _, body = await get(plane.admin_address, "/api/v1/clusters")
        assert status == 200
        assert body["synced"] is True
        orders, users = body["clusters"]
        assert users["name"] == "users.shop:8080"
        assert orders["aliases"] == ["orders.shop:grpc", "o-eds"]
        assert orders["counts"] == {"ready": 2, "draining": 0, "unhealthy": 0}
        assert orders["zones"] == {"z1": 2}
        assert orders["usable"] == 2
        assert 0 <= orders["age_seconds"] < 5
        assert orders["version"] == plane.store.catalog.clusters()[ORDERS].version
        assert [e["address"] for e in orders["endpoints"]] == ["127.0.0.1:1", "127.0.0.1:2"]
        assert orders["endpoints"][0]["health"] == "ready"


@pytest.mark.parametrize("name", [ORDERS, "orders.shop", "orders.shop:grpc"])
async def test_one_cluster_is_found_under_any_name_of_it(source, name):
    async with running(source) as plane:
        await plane.store.synced.wait()
        _, _, body = await get(plane.admin_address, f"/api/v1/clusters?name={name}")
        assert [c["name"] for c in body["clusters"]] == [ORDERS]


async def test_an_unknown_cluster_is_answered_with_similar_names(source):
    async with running(source) as plane:
        await plane.store.synced.wait()
        status, _, body = await get(plane.admin_address, "/api/v1/clusters?name=order.shop")
        assert status == 404
        assert body["error"].startswith("no cluster answers to 'order.shop'; similar names: ")
        assert ORDERS in body["error"]


async def test_problems_are_listed_with_object_field_value_and_fix(source):
    async with running(source) as plane:
        await plane.store.synced.wait()
        report = plane.store.report("manifests")
        report(Problem("EndpointSlice shop/a", "ports[0].port", "70000", "use 1 to 65535"))
        await eventually(lambda: len(plane.store.problems) == 1)
        _, _, body = await get(plane.admin_address, "/api/v1/clusters")
        (problem,) = body["problems"]
        assert problem["where"] == "EndpointSlice shop/a"
        assert problem["source"] == "manifests"
        assert problem["text"] == "EndpointSlice shop/a: ports[0].port: 70000: use 1 to 65535"


async def test_clients_show_who_is_connected_and_what_they_acked_or_nacked(source, caplog):
    caplog.set_level(logging.ERROR)
    async with running(source) as plane, RawClient(plane.xds_address) as client:
        good, bad = client.sotw(), client.delta(agent="gRPC C-core")
        await good.hello(type_url=EDS, resource_names=[ORDERS, "nosuch.shop:1"])
        await good.ack(await good.read(), resource_names=[ORDERS, "nosuch.shop:1"])
        await bad.hello(type_url=EDS, resource_names_subscribe=[ORDERS])
        response = await bad.read()
        await bad.send(
            type_url=EDS,
            response_nonce=response.nonce,
            error_detail={"code": 3, "message": "no such\x1b[31m locality"},
        )
        await eventually(
            lambda: any(
                r.state == "nacked" for s in plane.server.streams for r in s.session.status()
            )
        )
        _, _, body = await get(plane.admin_address, "/api/v1/clients")
    one, two = sorted(body["clients"], key=lambda c: c["kind"])
    assert (one["node"], one["kind"], one["transport"]) == ("test-node", "envoy", "sotw")
    assert (two["kind"], two["transport"], two["service"]) == ("grpc", "delta", "ads")
    assert one["peer"].startswith("ipv4:127.0.0.1:")
    assert 0 <= one["connected_seconds"] < 5
    states = {r["name"]: r for r in one["resources"]}
    assert states[ORDERS]["state"] == "acked"
    assert states[ORDERS]["acked"] == states[ORDERS]["sent"] != ""
    assert states["nosuch.shop:1"]["state"] == "absent"
    (nacked,) = two["resources"]
    assert nacked["state"] == "nacked"
    assert nacked["error"] == "no such\\x1b[31m locality"
    assert 0 <= nacked["state_seconds"] < 5
    assert 0 <= states[ORDERS]["state_seconds"] < 5
    assert states["nosuch.shop:1"]["state_seconds"] is None
    assert nacked["type"] == "ClusterLoadAssignment"


async def test_metrics_are_prometheus_text_with_every_metric(source):
    source.put(updated("slow", 1, health=Health.DRAINING))
    async with running(source) as plane:
        await eventually(lambda: len(plane.store.catalog.clusters()) == 3)
        status, headers, text = await get(plane.admin_address, "/metrics")
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    for metric in METRICS:
        assert f"# TYPE {metric.name} {metric.kind}\n" in text
    assert "trimtab_clusters 3\n" in text
    assert 'trimtab_endpoints{health="draining"} 1\n' in text
    assert 'trimtab_source_synced{source="source-0"} 1\n' in text
    assert "trimtab_ready 1\n" in text
    assert 'trimtab_insecure_listener{port="xds"} 0\n' in text


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1:1", "[::1]:1", "10.1.2.3", "ok.example:9"]
)
async def test_loopback_names_ip_addresses_and_configured_hosts_may_be_asked_for(source, host):
    async with running(source, config=Config(admin_hosts=("OK.example",))) as plane:
        status, _, _ = await get(plane.admin_address, "/healthz", headers={"Host": host})
        assert status == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:80", "127.0.0.1.nip.io"])
async def test_a_foreign_host_is_refused_since_a_browser_may_have_been_tricked(source, host):
    async with running(source) as plane:
        status, _, body = await get(plane.admin_address, "/api/v1/clusters", headers={"Host": host})
        assert status == 403
        assert "admin_hosts" in body["error"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_only_reading_is_allowed(source, method):
    async with running(source) as plane:
        status, headers, body = await get(plane.admin_address, "/api/v1/clusters", method=method)
        assert status == 405
        assert set(headers["Allow"].split(", ")) == {"GET", "HEAD"}
        assert "error" in body


async def test_an_unknown_page_is_an_error_in_json_and_the_root_lists_the_pages(source):
    async with running(source) as plane:
        status, _, body = await get(plane.admin_address, "/nothing")
        assert status == 404
        assert "error" in body
        _, _, index = await get(plane.admin_address, "/")
        assert "/api/v1/clusters" in index["paths"]


async def test_why_lists_who_subscribes_to_the_cluster_and_what_they_acked(source):
    async with running(source) as plane, RawClient(plane.xds_address) as client:
        stream = client.sotw()
        await stream.hello(type_url=EDS, resource_names=["orders.shop", "users.shop"])
        await stream.ack(await stream.read(), resource_names=["orders.shop", "users.shop"])
        await eventually(
            lambda: all(
                r.state == "acked" for s in plane.server.streams for r in s.session.status()
            )
        )
        _, _, body = await get(plane.admin_address, "/api/v1/why?name=orders.shop&zone=z1")
        status, _, refused = await get(plane.admin_address, "/api/v1/why")
    assert body["cluster"] == ORDERS
    (subscriber,) = body["subscribers"]
    assert [(r["name"], r["state"]) for r in subscriber["resources"]] == [("orders.shop", "acked")]
    assert status == 400
    assert "which name?" in refused["error"]


async def test_a_grpc_client_at_the_admin_port_is_one_line_in_the_log(source, caplog):
    async with running(source) as plane:
        address = f"{plane.admin_address.host}:{plane.admin_address.port}"
        async with grpc.aio.insecure_channel(address) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await channel.unary_unary("/any/Method")(b"", timeout=10)
        await eventually(lambda: "port of --xds" in caplog.text)
    (line,) = [record for record in caplog.records if "port of --xds" in record.getMessage()]
    assert (line.levelname, line.exc_info) == ("WARNING", None)
    assert "127.0.0.1" in line.getMessage()
    assert "Traceback" not in caplog.text


async def test_the_admin_port_takes_so_many_connections_and_fewer_from_one_address(source):
    async with running(source) as plane:
        host, port = plane.admin_address.host, plane.admin_address.port
        opened = []

        async def connect(own):
            reader, writer = await asyncio.open_connection(host, port, local_addr=(own, 0))
            opened.append(writer)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            try:
                return (await reader.readline()).startswith(b"HTTP/1.1 200"), writer
            except ConnectionError:
                return False, writer

        try:
            taken = [await connect("127.0.0.1") for _ in range(MOST_OF_PEER)]
            assert all(good for good, _ in taken)
            assert not (await connect("127.0.0.1"))[0]
            assert plane.counters.get("trimtab_admin_refused_total", "connections") == 1
            for peer in range(2, 2 + (MOST - MOST_OF_PEER) // MOST_OF_PEER):
                assert all([(await connect(f"127.0.0.{peer}"))[0] for _ in range(MOST_OF_PEER)])
            assert not (await connect("127.0.0.99"))[0]
            taken[0][1].close()
            await taken[0][1].wait_closed()

            async def let_in():
                return (await connect("127.0.0.1"))[0]

            async with asyncio.timeout(10):
                while not await let_in():
                    pass
        finally:
            for writer in opened:
                writer.close()
