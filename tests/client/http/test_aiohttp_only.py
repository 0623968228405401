"""What is aiohttp's own affair."""

import asyncio
import gc
import socket
import threading
from contextlib import asynccontextmanager

import aiohttp
import pytest
import yarl

from harness.waiting import pause
from trimtab.aiohttp import Middleware

URL = "http://orders.shop:8080"


async def test_a_full_pool_is_not_the_endpoints_fault(servers):
    opened = servers.open("a", "b", "c")
    async with (
        Middleware(endpoints={"orders.shop:8080": [s.target for s in opened]}) as balanced,
        aiohttp.ClientSession(
            middlewares=[balanced],
            connector=aiohttp.TCPConnector(limit=1),
            timeout=aiohttp.ClientTimeout(total=5, connect=0.2),
        ) as session,
        session.get(URL + "/parts"),
    ):
        for _ in range(3):
            with pytest.raises(aiohttp.ConnectionTimeoutError):
                await session.get(URL + "/")
        (cluster,) = balanced._clusters
        assert all(node.connected for node in cluster.balancer.nodes.values())


@pytest.mark.parametrize("end", ["its body", "its session"])
async def test_a_response_that_is_dropped_unread_is_in_flight_until_it_ends(servers, end):
    a = servers.open("a")
    async with (
        Middleware(endpoints={"orders.shop:8080": [a.target]}) as balanced,
        aiohttp.ClientSession(middlewares=[balanced]) as session,
    ):
        response = await session.get(URL + "/parts")
        (cluster,) = balanced._clusters
        del response
        gc.collect()
        async with session.get(URL + "/") as other:  # whose pick takes back what was dropped
            await other.read()
        # aiohttp itself keeps it, and its connection. When this fails, it no longer does: the guide says so.
        assert cluster.balancer.in_flight == 1
        if end == "its session":
            await session.close()
        else:
            a.let_go.set()
        async with asyncio.timeout(10):
            while cluster.balancer.in_flight:
                await asyncio.to_thread(pause)
                gc.collect()
                cluster.balancer.take_back()


@asynccontextmanager
async def session_at(*targets, **more):
    async with (
        Middleware(endpoints={"orders.shop:8080": targets}) as balanced,
        aiohttp.ClientSession(middlewares=[balanced], **more) as session,
    ):
        yield session


@pytest.fixture
def closing():
    """The target of a server that hangs up on every request."""
    listening = socket.create_server(("127.0.0.1", 0))

    def hang_up():
        while True:
            try:
                peer, _ = listening.accept()
            except OSError:
                return
            with peer:
                peer.recv(1)

    thread = threading.Thread(target=hang_up)
    thread.start()
    yield f"127.0.0.1:{listening.getsockname()[1]}"
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join()


async def test_an_error_is_aiohttps_own_and_names_service_and_endpoint(servers, closing):
    refused = "127.0.0.1:1"
    silent = servers.open("a").target
    reading = {"timeout": aiohttp.ClientTimeout(sock_read=0.1)}
    waiting = {"timeout": aiohttp.ClientTimeout(total=0.1)}
    for target, path, more, kind in (
        (refused, "/", {}, aiohttp.ClientConnectorError),
        (closing, "/", {}, (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)),
        (silent, "/hold", reading, aiohttp.SocketTimeoutError),
        (silent, "/hold", waiting, TimeoutError),
    ):
        async with session_at(target, **more) as session:
            with pytest.raises(kind) as caught:
                await session.post(URL + path)
        assert f"orders.shop:8080: endpoint {target}: " in str(caught.value)
        assert "1 of 1 endpoints ready" in str(caught.value)


async def test_a_response_and_its_error_say_the_service_s_url(servers):
    server = servers.open("a")
    server.status["/missing"] = 404
    url = yarl.URL(URL + "/missing?a=%20b")
    async with session_at(server.target) as session, session.get(url) as response:
        told = response.request_info
        assert (response.url, told.url, told.real_url) == (url, url, url)
        with pytest.raises(aiohttp.ClientResponseError) as caught:
            response.raise_for_status()
        assert caught.value.request_info.url == url


async def test_a_request_through_a_proxy_goes_where_the_proxy_sends_it(servers):
    a, proxy = servers.open("a", "proxy")
    async with (
        Middleware(endpoints={"orders.shop:8080": [a.target]}) as balanced,
        aiohttp.ClientSession(middlewares=[balanced]) as session,
    ):
        for through, server in ((None, "a"), (f"http://{proxy.target}", "proxy")):
            async with session.get(URL + "/", proxy=through) as response:
                seen = await response.json(content_type=None)
                assert (seen["server"], seen["host"]) == (server, "orders.shop:8080")
        (cluster,) = balanced._clusters
        assert sum(cluster.balancer.zone_picks.values()) == 1


async def test_a_proxy_of_the_environment_gets_requests_where_the_session_asks_for_it(
    servers, monkeypatch
):
    a, proxy = servers.open("a", "proxy")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://{proxy.target}")
    async with Middleware(endpoints={"orders.shop:8080": [a.target]}) as balanced:
        for asks, server in ((False, "a"), (True, "proxy")):
            async with (
                aiohttp.ClientSession(middlewares=[balanced], trust_env=asks) as session,
                session.get(URL + "/") as response,
            ):
                seen = await response.json(content_type=None)
                assert (seen["server"], seen["host"]) == (server, "orders.shop:8080")
