"""A transport or middleware that is closed and used again begins anew, as the libraries' own do."""

import asyncio
import socket

import pytest

from harness.waiting import Deadline, pause
from http_doors import Aiohttp
from trimtab.model import Endpoint, Snapshot
from trimtab.testing import ControlPlane

URL = "http://orders.shop:8080/"
WITHIN_S = 30


@pytest.fixture
def plane():
    with ControlPlane() as made:
        yield made


async def until(look):
    deadline = Deadline(WITHIN_S)
    while not await look():
        assert not deadline.passed
        await asyncio.to_thread(pause)


async def close_transport(client):
    transport = client.transport
    if isinstance(client, Aiohttp):
        await transport.close()
    elif hasattr(transport, "aclose"):
        await transport.aclose()
    else:
        await asyncio.to_thread(transport.close)


async def reopen(client):
    """Another client of the same transport, as a program has that opens one for each request."""
    await client.close()
    if isinstance(client, Aiohttp):
        client._session = None
    else:
        client._client = type(client._client)(transport=client.transport, timeout=5.0)


async def test_endpoints_are_followed_after_it_was_closed(door, servers, plane):
    a, b = servers.open("a", "b")
    plane.set("orders.shop:8080", [a.target])
    client = door(hosts=["*.shop"], bootstrap=plane.bootstrap())
    for _ in range(2):
        assert (await client.send("GET", URL)).seen["server"] == "a"
        await reopen(client)
        assert list(client.transport._clusters) == []
    plane.set("orders.shop:8080", [b.target])

    async def moved():
        return (await client.send("GET", URL)).seen["server"] == "b"

    await until(moved)


@pytest.fixture
def mute():
    """A port where connections are taken and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


async def test_who_was_closed_before_the_first_endpoints_came_gets_them_later(door, servers, mute):
    plane = ControlPlane(port=mute.getsockname()[1])
    plane.set("orders.shop:8080", [servers.open("a").target])
    client = door(hosts=["*.shop"], bootstrap=plane.bootstrap(), timeout=0.2)
    with pytest.raises(client.errors):
        await client.send("GET", URL)
    await reopen(client)
    mute.close()
    with plane:

        async def found():
            try:
                return (await client.send("GET", URL)).seen["server"] == "a"
            except client.errors:
                return False

        await until(found)
        await client.close()


async def test_a_request_that_waits_for_endpoints_while_it_is_closed_gets_them(door, servers, mute):
    plane = ControlPlane(port=mute.getsockname()[1])
    client = door(hosts=["*.shop"], bootstrap=plane.bootstrap(), timeout=60.0)
    waiting = asyncio.create_task(client.send("GET", URL))

    async def waits():
        return any(cluster._waiters for cluster in client.transport._clusters)

    await until(waits)
    (old,) = client.transport._clusters
    await close_transport(client)
    await until(waits)
    (new,) = client.transport._clusters
    assert new is not old
    a = servers.open("a")
    new.updated(Snapshot("orders.shop:8080", (Endpoint("127.0.0.1", a.port),)))
    async with asyncio.timeout(WITHIN_S):
        assert (await waiting).seen["server"] == "a"
