"""WebSockets through aiohttp's middleware: each is picked like a request."""

import aiohttp
import pytest
from aiohttp import web

from trimtab.aiohttp import Middleware


async def echo(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_str(request.headers["Host"])
    async for message in socket:
        await socket.send_str(message.data)
    return socket


@pytest.fixture
async def target():
    app = web.Application()
    app.router.add_get("/talk", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    yield f"{host}:{port}"
    await runner.cleanup()


@pytest.mark.parametrize("scheme", ["ws", "http"])
async def test_a_websocket_goes_to_an_endpoint_and_talks(target, scheme):
    async with (
        Middleware(endpoints={"orders.shop:80": [target]}) as balanced,
        aiohttp.ClientSession(middlewares=[balanced]) as session,
        session.ws_connect(f"{scheme}://orders.shop/talk") as talk,
    ):
        assert await talk.receive_str(timeout=30) == "orders.shop"
        await talk.send_str("hello")
        assert await talk.receive_str(timeout=30) == "hello"
        (cluster,) = balanced._clusters
        (node,) = cluster.balancer.nodes.values()
        assert (node.picks, node.in_flight) == (1, 0)
