"""HTTP/2 servers that leave their connections under load: what becomes of the requests on them."""

import asyncio
from collections import Counter

import pytest

from http2_leaver import Http2Leaver
from http_doors import Httpx2Async, Httpx2Sync, HttpxAsync, HttpxSync

ASYNC = pytest.mark.parametrize("kind", [HttpxAsync, Httpx2Async], ids=lambda kind: kind.__name__)
ALL = pytest.mark.parametrize(
    "kind", [HttpxAsync, HttpxSync, Httpx2Async, Httpx2Sync], ids=lambda kind: kind.__name__
)
EVERY = 50
CALLERS = 8
CALLS = 60  # of each


@pytest.fixture
def leavers():
    made = []

    def make(number, every=EVERY, **how):
        made.extend(Http2Leaver(every, **how) for _ in range(number))
        return made

    yield make
    for server in made:
        server.close()


def client_of(kind, servers, **arguments):
    endpoints = {"orders.shop:80": [server.target for server in servers]}
    return kind(endpoints=endpoints, http1=False, http2=True, **arguments)


async def load(client, callers, calls, method, body=None):
    """Requests with names of their own; how many each failure befell."""
    failed = Counter()
    content = body or (lambda: b"x" * 1000 if method == "POST" else None)

    async def one(caller):
        for n in range(calls):
            try:
                await client.send(method, f"http://orders.shop/{caller}-{n}", content=content())
            except client.errors as error:
                failed[repr(error)] += 1

    await asyncio.gather(*(one(caller) for caller in range(callers)))
    return failed


@ALL
@pytest.mark.parametrize("number", [1, 3], ids=["alone", "three"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_servers_that_leave_lose_no_request_and_run_each_once(kind, number, method, leavers):
    servers = leavers(number)
    client = client_of(kind, servers, timeout=30.0)
    assert await load(client, CALLERS, CALLS, method) == {}
    executions = sum((server.executions for server in servers), Counter())
    assert set(executions.values()) == {1}
    assert executions.total() == CALLERS * CALLS
    assert sum(server.farewells for server in servers) >= CALLERS * CALLS // EVERY - number
    await client.close()


@ALL
async def test_a_request_that_the_server_no_longer_looks_at_is_sent_again_whatever_it_is(
    kind, leavers
):
    (server,) = leavers(1, every=5)
    client = client_of(kind, [server], timeout=30.0)
    assert await load(client, 1, 40, "POST") == {}
    assert set(server.executions.values()) == {1}
    assert server.farewells == 8
    await client.close()


async def parts():
    yield b"only "
    yield b"once"


@ASYNC
async def test_a_streamed_body_is_not_sent_again_and_its_error_is_no_fault_of_the_server(
    kind, leavers
):
    (server,) = leavers(1, every=10)
    client = client_of(kind, [server], timeout=30.0)
    failed = await load(client, CALLERS, 20, "POST", body=parts)
    assert failed.total() > 0
    assert all("StreamReset" in error and "7" in error for error in failed)
    assert set(server.executions.values()) == {1}
    assert server.executions.total() + failed.total() == CALLERS * 20
    (cluster,) = client.transport._clusters
    (node,) = cluster.balancer.nodes.values()
    assert (node.errors, node.in_flight) == (0, 0)
    await client.close()


@ALL
async def test_what_a_mute_server_left_is_asked_elsewhere_within_the_caller_s_time(kind, leavers):
    leavers(1, every=10**6)  # two that are mute may both lose a request, which is asked again once
    servers = leavers(1, every=5, mute=True)
    client = client_of(kind, servers, timeout=2.0, policy="round_robin")
    assert await load(client, 1, 30, "GET") == {}
    assert sum(server.farewells for server in servers) > 0
    await client.close()


@ALL
async def test_a_server_that_refuses_and_stays_counts_as_overloaded_and_is_left_to_the_others(
    kind, leavers
):
    leavers(2, every=10**6)
    servers = leavers(1, every=10**6, refuses=True)
    client = client_of(kind, servers, timeout=30.0, policy="p2c")
    assert await load(client, 1, 300, "POST") == {}
    # Its fair share is a third of 300 and more; each refusal takes off a tenth of its success rate.
    assert 0 < servers[-1].refused < 50
    await client.close()
