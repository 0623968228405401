"""How long a request looks for an endpoint that takes its connection: as long as its caller would wait for one."""

import contextlib
import socket

import aiohttp
import pytest

import trimtab
from doors import recording
from http_doors import Aiohttp
from trimtab.policies import Outcome

URL = "http://orders.shop:8080/"


@contextlib.contextmanager
def deaf():
    """The target of a pod that takes no connections and refuses none."""
    with contextlib.ExitStack() as opened:
        listening = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        where = listening.getsockname()
        for _ in range(4):
            filling = opened.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(where)
        yield f"127.0.0.1:{where[1]}"


@pytest.fixture
def ends():
    with recording.recorded() as found:
        yield found


def client_of(door, targets, connect_s):
    client = door(endpoints={"orders.shop:8080": targets}, policy=recording.NAME, timeout=connect_s)
    if isinstance(client, Aiohttp):
        client._timeout = aiohttp.ClientTimeout(total=60, sock_connect=connect_s)
    return client


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "observed"])
async def test_one_pod_that_takes_no_connections_costs_the_caller_s_own_time_once(
    door, ends, plain
):
    with deaf() as target:
        client = client_of(door, [target], 0.5)
        watching = contextlib.nullcontext() if plain else trimtab.call_details()
        with watching, pytest.raises(client.errors):
            await client.send("GET", URL)
    assert dict(ends) == {(target, Outcome.UNREACHED): 1}


async def test_of_several_one_other_is_asked_though_the_first_took_all_of_the_time(door, ends):
    with deaf() as one, deaf() as other, deaf() as third:
        client = client_of(door, [one, other, third], 0.5)
        with pytest.raises(client.errors):
            await client.send("POST", URL)
    assert len(ends) == 2
    assert set(ends.values()) == {1}
