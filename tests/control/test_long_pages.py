"""Admin pages that grow with clients and clusters: nobody waits for them, and they take no memory."""

import asyncio
import contextlib
import gc
import tracemalloc

import aiohttp
import pytest

from loop_gaps import Gaps
from plane import QueueSource, RawClient, get, running, updated
from trimtab.model import Synced
from trimtab.xds import type_urls

CLUSTERS, STREAMS = 2000, 10
FEW = 1_500_000  # bytes; a page that is built as a whole takes 6 and 15 millions


@pytest.fixture(scope="module")
def source():
    return [*(updated(f"service-{n}", 1) for n in range(CLUSTERS)), Synced()]


@contextlib.asynccontextmanager
async def crowded(events):
    """A control plane, and streams that each have everything."""
    async with (
        running(QueueSource(*events)) as plane,
        RawClient(plane.xds_address) as client,
    ):
        await plane.store.synced.wait()
        streams = [client.delta() for _ in range(STREAMS)]
        for number, stream in enumerate(streams):
            node = {"id": f"node-{number}", "user_agent_name": "envoy"}
            await stream.send(node=node, type_url=type_urls.CDS, resource_names_subscribe=["*"])
            await stream.read(within=90)
        yield plane


async def read_and_forgotten(plane, path):
    """How long a page is; what was read of it is not kept."""
    size = 0
    url = f"http://{plane.admin_address}{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        async for part in response.content.iter_any():
            size += len(part)
    return size


@pytest.mark.parametrize("path", ["/api/v1/clients", "/api/v1/clusters"])
async def test_a_long_page_leaves_the_loop_to_others_and_is_never_whole_in_memory(source, path):
    async with crowded(source) as plane:
        whole = await read_and_forgotten(plane, path)
        gc.collect()
        gc.disable()  # its own pauses are not the page's
        tracemalloc.start()
        gaps = Gaps()
        try:
            before = tracemalloc.get_traced_memory()[0]
            assert await read_and_forgotten(plane, path) == pytest.approx(whole, rel=0.01)
            peak = tracemalloc.get_traced_memory()[1] - before
        finally:
            gaps.stop()
            tracemalloc.stop()
            gc.enable()
    assert peak < FEW
    assert gaps.longest < 0.1


async def test_why_looks_at_one_cluster_of_each_stream(source):
    async with crowded(source) as plane:
        *_, body = await get(plane.admin_address, "/api/v1/why?name=service-7.shop")
    name = "service-7.shop:8080"
    assert {c["node"] for c in body["subscribers"]} == {f"node-{n}" for n in range(STREAMS)}
    assert [[r["name"] for r in c["resources"]] for c in body["subscribers"]] == [[name]] * STREAMS


async def test_a_reader_who_does_not_read_holds_one_part_of_a_page(source):
    async with crowded(source) as plane:
        address = plane.admin_address
        reader, writer = await asyncio.open_connection(address.host, address.port, limit=1024)
        gc.collect()
        tracemalloc.start()
        writer.write(b"GET /api/v1/clients HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200" in await reader.readline()
        await asyncio.wait_for(get(address, "/healthz"), 10)
        assert tracemalloc.get_traced_memory()[0] < FEW
        tracemalloc.stop()
        writer.close()


async def test_one_node_can_be_asked_for_and_a_page_can_be_asked_for_its_head(source):
    async with crowded(source[-3:]) as plane:
        *_, body = await get(plane.admin_address, "/api/v1/clients?node=node-3")
        (client,) = body["clients"]
        assert client["node"] == "node-3"
        assert {r["cluster"] for r in client["resources"]} == {
            f"service-{n}.shop:8080" for n in (CLUSTERS - 2, CLUSTERS - 1)
        }
        *_, body = await get(plane.admin_address, "/api/v1/clients?node=nobody")
        assert body == {"clients": []}
        url = f"http://{plane.admin_address}/api/v1/clients"
        async with aiohttp.ClientSession() as session, session.head(url) as response:
            assert (response.status, response.content_type) == (200, "application/json")
