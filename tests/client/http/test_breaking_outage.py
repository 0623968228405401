"""A full outage in which every connection breaks: how often a request is sent then."""

import aiohttp
import pytest

import trimtab
import trimtab.aiohttp
from damaged_pod import DamagedPod
from trimtab.attempt.budget import FLOOR, RATIO
from trimtab.model import PolicyConfig

URL = "http://orders.shop:8080/"
PLAIN = PolicyConfig.of("round_robin", judges=False, stalls=False)  # and nobody asks but requests
REQUESTS = 200


@pytest.fixture
def pods():
    """Three that read each request and close the connection."""
    opened = [DamagedPod(list) for _ in range(3)]
    yield opened
    for pod in opened:
        pod.close()


def fixed(pods):
    return {"orders.shop:8080": [pod.target for pod in pods]}


def served(pods):
    return sum(pod.served for pod in pods)


async def test_breaking_connections_are_a_fifth_more_attempts_and_ten_whatever_the_library_does(
    door, pods
):
    client = door(endpoints=fixed(pods), policy=PLAIN)
    for _ in range(REQUESTS):
        before = served(pods)
        with pytest.raises(client.errors):
            await client.send("GET", URL)
        assert served(pods) - before <= 2
    # Requests that fail earn as much as those that go well: a fifth of an attempt each.
    assert REQUESTS <= served(pods) <= REQUESTS + FLOOR + RATIO * REQUESTS


async def test_what_is_declared_to_run_once_does_so(door, pods):
    client = door(endpoints=fixed(pods), policy=PLAIN, retry=trimtab.Retry(attempts=1))
    for sent in range(1, 6):
        with pytest.raises(client.errors):
            await client.send("GET", URL)
        assert served(pods) == sent


async def test_middleware_around_trimtab_s_may_send_a_request_again(pods):
    async def twice(request, handler):
        try:
            return await handler(request)
        except aiohttp.ServerDisconnectedError:
            return await handler(request)

    balanced = trimtab.aiohttp.Middleware(
        endpoints=fixed(pods), policy=PLAIN, retry=trimtab.Retry(attempts=1)
    )
    async with balanced, aiohttp.ClientSession(middlewares=[twice, balanced]) as session:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await session.get(URL)
    # aiohttp's own repetition goes through both as well: it is refused, and then sent by ``twice``.
    assert served(pods) == 3
