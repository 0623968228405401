"""A process that ends with an open HTTP client and requests in flight: soon, and trimtab says nothing."""

import re

import pytest

from doors.leaving import LEAVE, ended
from harness.waiting import measured

pytestmark = pytest.mark.processes

SOON_S = 2

BEGIN = """
import asyncio, sys, threading
URL = "http://orders.shop:8080"
own = sys.argv[1] == "trimtab"
endpoints = {"orders.shop:8080": sys.argv[2:]}
if not own:
    URL = f"http://{sys.argv[2]}"
"""
THREADS = """
import httpx, trimtab.httpx
transport = trimtab.httpx.Transport(endpoints=endpoints) if own else httpx.HTTPTransport()
client = httpx.Client(transport=transport, timeout=30)
client.get(URL + "/")
for _ in range(2):
    threading.Thread(target=client.get, args=[URL + "/hold"], daemon=True).start()
"""
LOOP = """
import httpx, trimtab.httpx
async def main():
    transport = trimtab.httpx.AsyncTransport(endpoints=endpoints) if own else httpx.AsyncHTTPTransport()
    client = httpx.AsyncClient(transport=transport, timeout=30)
    await client.get(URL + "/")
    return client, [asyncio.create_task(client.get(URL + "/hold")) for _ in range(2)]
"""
AIOHTTP = """
import aiohttp, trimtab.aiohttp
async def get(session, path):
    async with session.get(URL + path) as answer:
        return await answer.text()
async def main():
    middlewares = [trimtab.aiohttp.Middleware(endpoints=endpoints)] if own else []
    session = aiohttp.ClientSession(middlewares=middlewares)
    await get(session, "/")
    return session, [asyncio.create_task(get(session, "/hold")) for _ in range(2)]
"""
IN_THE_MIDDLE = """
async def leave():
    kept = await main()
    await asyncio.to_thread(sys.stdin.read)
    print("leaving", flush=True)
asyncio.run(leave())
"""
PROGRAMS = {
    "httpx, threads": BEGIN + THREADS + LEAVE,
    "httpx, loop": BEGIN + LOOP + IN_THE_MIDDLE,
    "aiohttp": BEGIN + AIOHTTP + IN_THE_MIDDLE,
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_process_ends_at_once_and_says_what_it_says_with_the_library_alone(program, servers):
    _, alone = end_of(program, "alone", servers)
    took = []
    while not measured(took, below=SOON_S, tries=3):
        seconds, said = end_of(program, "trimtab", servers)
        took.append(seconds)
        assert said == alone
    assert min(took) < SOON_S


def end_of(program, kind, servers):
    server = servers.open("a")
    took, status, said = ended(
        PROGRAMS[program], kind, server.target, under_way=lambda: server.holding == 2
    )
    assert status == 0
    return took, re.sub("0x[0-9a-f]+", "0x", said)
