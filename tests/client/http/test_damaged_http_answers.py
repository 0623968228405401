"""Pods whose answers are no HTTP, or end before they are whole, through every HTTP door."""

import itertools

import aiohttp
import httpx
import httpx2
import pytest
from hyperframe.frame import DataFrame

from damaged_pod import DamagedPod
from http_doors import Httpx2Async, Httpx2Sync, HttpxAsync, HttpxSync
from trimtab.model import PolicyConfig

URL = "http://orders.shop:8080"
PLAIN = PolicyConfig.of("round_robin", judges=False, stalls=False)
GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
BEGUN = b"HTTP/1.1 200 OK\r\n"
HEADS = {
    "garbage": lambda: [b"\x00\xff garbage\r\n\r\n"],
    "no number": lambda: [b"HTTP/1.1 fine OK\r\n\r\n"],
    "half a head": lambda: [BEGUN + b"content-le"],
    "nothing": list,
    "length of letters": lambda: [BEGUN + b"content-length: some\r\n\r\n{}"],
    "length below 0": lambda: [BEGUN + b"content-length: -2\r\n\r\n{}"],
    "two lengths": lambda: [BEGUN + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}"],
    "no name": lambda: [BEGUN + b": value\r\n\r\n{}"],
    "endless header": lambda: itertools.chain(
        [BEGUN + b"x-much: "], itertools.repeat(b"a" * 10_000)
    ),
}
BODIES = {
    "short": lambda: [BEGUN + b"content-length: 100\r\n\r\nshort"],
    "no chunk": lambda: [BEGUN + b"transfer-encoding: chunked\r\n\r\nzz\r\nwhat\r\n"],
    "half a chunk": lambda: [BEGUN + b"transfer-encoding: chunked\r\n\r\n64\r\nshort"],
}
BROKEN_RULES = (
    httpx.RemoteProtocolError,
    httpx2.RemoteProtocolError,
    httpx.NetworkError,
    httpx2.NetworkError,
    aiohttp.ClientResponseError,
    aiohttp.ClientConnectionError,
)
BROKEN_BODY = (
    httpx.RemoteProtocolError,
    httpx2.RemoteProtocolError,
    aiohttp.ClientPayloadError,
    aiohttp.ClientResponseError,  # where head and body come as one piece
)
REQUESTS = 6
_MISPLACED = DataFrame(7, b"to nobody").serialize()  # of a stream that there isn't


@pytest.fixture
def pods():
    made = []

    def make(answer, **how):
        made.append(DamagedPod(answer, **how))
        return made[-1]

    yield make
    for pod in made:
        pod.close()


def both(*pods):
    return {"orders.shop:8080": [pod.target for pod in pods]}


def node_of(client, pod):
    (cluster,) = client.transport._clusters
    assert cluster.balancer.in_flight == 0
    return cluster.balancer.nodes["127.0.0.1", pod.port]


@pytest.mark.parametrize("damage", HEADS)
async def test_a_damaged_head_is_an_error_of_the_library_s_and_a_failure_of_the_pod_s(
    door, pods, damage
):
    pod = pods(HEADS[damage])
    client = door(endpoints=both(pod), policy=PLAIN)
    for n in range(1, 4):
        with pytest.raises(BROKEN_RULES):
            await client.send("POST", URL + "/", content=b"once")
        assert (pod.served, node_of(client, pod).errors) == (n, n)


@pytest.mark.parametrize("damage", HEADS)
async def test_what_may_run_twice_is_asked_elsewhere_after_a_damaged_head(door, pods, damage):
    bad, good = pods(HEADS[damage]), pods(lambda: [GOOD], closes=False)
    client = door(endpoints=both(bad, good), policy=PLAIN)
    for _ in range(REQUESTS):
        assert (await client.send("GET", URL + "/")).status == 200
    assert good.served == REQUESTS
    assert bad.served > 0
    assert node_of(client, bad).errors == bad.served
    assert node_of(client, good).errors == 0


@pytest.mark.parametrize("damage", BODIES)
async def test_a_damaged_body_is_an_error_of_the_library_s_and_a_failure_of_the_pod_s(
    door, pods, damage
):
    pod = pods(BODIES[damage])
    client = door(endpoints=both(pod), policy=PLAIN)
    for n in range(1, 4):
        with pytest.raises(BROKEN_BODY):
            await client.send("POST", URL + "/", content=b"once")
        assert (pod.served, node_of(client, pod).errors) == (n, n)


@pytest.mark.parametrize("damage", ["garbage", "length below 0"])
async def test_a_pod_whose_answers_are_damaged_is_avoided(door, pods, damage):
    bad, good = pods(HEADS[damage]), pods(lambda: [GOOD], closes=False)
    client = door(endpoints=both(bad, good))
    for _ in range(60):
        assert (await client.send("GET", URL + "/")).status == 200
    # Five failures in a row eject it, and what failed once more was on probation or under way.
    assert bad.served <= 8


@pytest.mark.parametrize(
    "kind", [HttpxAsync, HttpxSync, Httpx2Async, Httpx2Sync], ids=lambda kind: kind.__name__
)
@pytest.mark.parametrize("damage", [b"HTTP/1.1 400 Bad Request\r\n\r\n", _MISPLACED])
async def test_what_is_no_http_2_is_a_failure_of_the_pod_s(kind, pods, damage):
    pod = pods(lambda: [damage])
    client = kind(endpoints=both(pod), policy=PLAIN, http1=False, http2=True)
    with pytest.raises(client.library.ProtocolError):
        await client.send("POST", URL + "/", content=b"once")
    assert node_of(client, pod).errors == 1
    await client.close()
