"""What goes wrong with the caller's own body is his error, and says nothing of the pod that it was for."""

import asyncio
import contextlib
import socket
import threading

import httpx
import pytest

import trimtab
from damaged_pod import DamagedPod
from doors import recording
from http_doors import Aiohttp
from trimtab.policies import Outcome

URL = "http://orders.shop:8080/"
PART = b"x" * 100_000


@pytest.fixture
def ends():
    with recording.recorded() as found:
        yield found


@pytest.fixture
def half():
    """A server elsewhere, whose answers break off in the middle."""
    pod = DamagedPod(lambda: [b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort"])
    yield f"http://{pod.target}/"
    pod.close()


def body(client, parts):
    """An iterable of the kind that this client takes for a body."""
    if "Sync" in type(client).__name__:
        return parts()

    async def read():
        for part in parts():
            yield part

    return read()


def own_error(client, kind):
    """An error as the caller's own code raises it, by what it is of the client's library's."""
    library = None if isinstance(client, Aiohttp) else client.library
    if kind == "its time is up":
        return TimeoutError("mine")
    if kind == "no connection":
        if library is None:
            return ConnectionRefusedError("mine")
        return library.ConnectError("mine")
    if kind == "lost":
        return ConnectionResetError("mine") if library is None else library.ReadError("mine")
    return KeyError("mine")


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "observed"])
@pytest.mark.parametrize("kind", ["its time is up", "no connection", "lost", "a bug"])
async def test_what_a_body_raises_is_its_caller_s_and_sent_once(door, servers, ends, kind, plain):
    targets = [server.target for server in servers.open("a", "b")]
    client = door(endpoints={"orders.shop:8080": targets}, policy=recording.NAME)
    mine = own_error(client, kind)

    def parts():
        yield PART
        raise mine

    watching = contextlib.nullcontext() if plain else trimtab.call_details()
    with watching, pytest.raises(Exception) as caught:  # noqa: PT011 - see below
        await client.send("POST", URL, content=body(client, parts))
    # Not the same object: a ``TimeoutError`` is made anew on its way out of a thread.
    assert repr(mine) in (repr(caught.value), repr(caught.value.__cause__))
    assert [(outcome, n) for (_, outcome), n in ends.items()] == [(Outcome.CANCELLED, 1)]
    (cluster,) = client.transport._clusters
    assert all(node.connected for node in cluster.balancer.nodes.values())


async def test_a_body_that_is_read_from_elsewhere_and_breaks_off_is_no_fault_of_the_pod_s(
    door, servers, ends, half
):
    client = door(endpoints={"orders.shop:8080": [servers.open("a").target]}, policy=recording.NAME)
    library = httpx if isinstance(client, Aiohttp) else client.library
    if "Sync" in type(client).__name__:

        def relayed():
            with library.stream("GET", half) as answer:
                yield from answer.iter_bytes()
    else:

        async def relayed():
            async with library.AsyncClient() as other, other.stream("GET", half) as answer:
                async for part in answer.aiter_bytes():
                    yield part

    with pytest.raises((*client.errors, library.RemoteProtocolError)):
        await client.send("PUT", URL, content=relayed())
    assert [(outcome, n) for (_, outcome), n in ends.items()] == [(Outcome.CANCELLED, 1)]


async def test_a_connection_that_breaks_while_a_body_is_sent_is_the_pod_s_fault(door, ends):
    listening = socket.create_server(("127.0.0.1", 0))
    begun = threading.Event()

    def hang_up():
        peer, _ = listening.accept()
        peer.recv(1)
        begun.wait(30)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    target = f"127.0.0.1:{listening.getsockname()[1]}"
    client = door(endpoints={"orders.shop:8080": [target]}, policy=recording.NAME, timeout=60.0)

    def parts():
        for _ in range(10_000):
            yield PART
            begun.set()

    try:
        with pytest.raises(client.errors):
            await client.send("POST", URL, content=body(client, parts))
        assert dict(ends) == {(target, Outcome.FAILURE): 1}
    finally:
        await asyncio.to_thread(thread.join)
        listening.close()
