"""What is aiohttp's own affair."""

import asyncio
import gc
import socket
import threading
from contextlib import asynccontextmanager, nullcontext, suppress

import aiohttp
import pytest
import yarl

import trimtab
from doors import recording
from harness.waiting import Deadline, pause
from trimtab.aiohttp import Middleware
from trimtab.model import PolicyConfig
from trimtab.policies import Outcome

URL = "http://orders.shop:8080"


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "observed"])
@pytest.mark.parametrize(
    ("limit", "names"), [({"limit": 1}, "abc"), ({"limit_per_host": 1, "limit": 0}, "a")]
)
async def test_a_full_pool_is_not_the_endpoints_fault(servers, limit, names, plain):
    opened = [servers.open(name) for name in names]
    async with (
        Middleware(endpoints={"orders.shop:8080": [s.target for s in opened]}) as balanced,
        aiohttp.ClientSession(
            middlewares=[balanced],
            connector=aiohttp.TCPConnector(**limit),
            timeout=aiohttp.ClientTimeout(total=60, connect=0.2),
        ) as session,
        session.get(URL + "/parts", timeout=aiohttp.ClientTimeout()),
    ):
        for _ in range(3):
            watching = nullcontext() if plain else trimtab.call_details()
            with watching, pytest.raises(aiohttp.ConnectionTimeoutError):
                await session.get(URL + "/")
        (cluster,) = balanced._clusters
        assert all(node.connected for node in cluster.balancer.nodes.values())


async def test_what_ends_with_its_own_session_says_nothing_of_the_endpoint(servers):
    a = servers.open("a")
    with recording.recorded() as ends:
        async with (
            Middleware(
                endpoints={"orders.shop:8080": [a.target]}, policy=recording.NAME
            ) as balanced,
            aiohttp.ClientSession(middlewares=[balanced]) as one,
            aiohttp.ClientSession(middlewares=[balanced]) as other,
        ):
            waiting = asyncio.create_task(one.get(URL + "/hold"))
            deadline = Deadline(30)
            while not a.holding:
                assert not deadline.passed
                await asyncio.to_thread(pause)
            await one.close()
            with pytest.raises(aiohttp.ClientError):
                await waiting
            assert dict(ends) == {(a.target, Outcome.CANCELLED): 1}
            async with other.get(URL + "/") as response:
                assert response.status == 200


async def test_a_body_that_stands_still_for_too_long_is_a_timeout_of_its_endpoint(servers):
    a = servers.open("a")
    with recording.recorded() as ends:
        async with session_at(a.target, policy=recording.NAME) as session:
            response = await session.get(URL + "/parts")
            reading = response.connection.protocol
            reading.read_timeout = 0.2  # as ``sock_read``, but from here on
            reading.start_timeout()
            with pytest.raises(aiohttp.SocketTimeoutError):
                await response.read()
        assert dict(ends) == {(a.target, Outcome.TIMEOUT): 1}


@asynccontextmanager
async def refusing_before_the_body():
    """The target of a server that answers 503 to every head, and asks for no body."""

    serving, opened = set(), []

    async def refuse(reader, writer):
        serving.add(asyncio.current_task())
        opened.append(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n")
                await writer.drain()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        yield "127.0.0.1:{1}".format(*server.sockets[0].getsockname())
    for writer in opened:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    await asyncio.gather(*serving)


@pytest.mark.parametrize("hedged", [False, True], ids=["one after another", "hedged"])
async def test_a_refusal_before_the_body_is_asked_for_leaves_the_next_attempt_its_own(
    servers, hedged
):
    a = servers.open("a")
    retry = trimtab.Retry(on=[503], hedge_after_s=30.0) if hedged else None
    async with (
        refusing_before_the_body() as refusing,
        Middleware(
            endpoints={"orders.shop:8080": [refusing, a.target]},
            policy=PolicyConfig.of("round_robin", judges=False, stalls=False),
            retry=retry,
        ) as balanced,
        aiohttp.ClientSession(middlewares=[balanced]) as session,
    ):
        for _ in range(4):
            async with session.put(URL + "/", data=b"whole", expect100=True) as response:
                assert response.status == 200
                assert (await response.json(content_type=None))["body"] == "whole"
        (cluster,) = balanced._clusters
        assert all(node.connected for node in cluster.balancer.nodes.values())
        assert min(node.picks for node in cluster.balancer.nodes.values()) >= 1


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
async def session_at(*targets, policy=None, **more):
    async with (
        Middleware(endpoints={"orders.shop:8080": targets}, policy=policy) as balanced,
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
