"""An HTTP client process that is itself stopped for a while, as in a pause of its machine."""

import contextlib

import pytest

from doors.stopped import StoppedClient
from harness.waiting import Deadline, pause

pytestmark = pytest.mark.processes

CALLERS = 16
KINDS = ("httpx", "httpx, threads", "aiohttp")
CLIENT = """
import asyncio, json, sys
from concurrent.futures import ThreadPoolExecutor
import aiohttp, httpx
import trimtab.aiohttp, trimtab.httpx
URL = "http://orders.shop:8080/"
kind, endpoints = sys.argv[1], {"orders.shop:8080": sys.argv[2:]}
answers, errors = [], []
stop = False
def tell(transport):
    ejections = sum(each.balancer._stack.ejection.ejections for each in transport._clusters)
    print(json.dumps({"answers": answers, "errors": errors, "ejections": ejections}), flush=True)
    answers.clear(), errors.clear()
async def serve(transport, get):
    async def call():
        while not stop:
            try:
                answers.append(json.loads(await get())["server"])
            except Exception as error:
                errors.append(repr(error))
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(64))
    calls = [asyncio.create_task(call()) for _ in range(CALLERS)]
    while await asyncio.to_thread(sys.stdin.readline):
        tell(transport)
    globals()["stop"] = True
    await asyncio.gather(*calls)
async def main():
    if kind == "aiohttp":
        timeout = aiohttp.ClientTimeout(total=2)
        transport = trimtab.aiohttp.Middleware(endpoints=endpoints)
        async with aiohttp.ClientSession(middlewares=[transport], timeout=timeout) as session:
            async def get():
                async with session.get(URL) as answer:
                    return await answer.text()
            await serve(transport, get)
    elif kind == "httpx":
        transport = trimtab.httpx.AsyncTransport(endpoints=endpoints)
        async with httpx.AsyncClient(transport=transport, timeout=2) as client:
            async def get():
                return (await client.get(URL)).text
            await serve(transport, get)
    else:
        transport = trimtab.httpx.Transport(endpoints=endpoints)
        with httpx.Client(transport=transport, timeout=2) as client:
            async def get():
                return (await asyncio.to_thread(client.get, URL)).text
            await serve(transport, get)
asyncio.run(main())
""".replace("CALLERS", str(CALLERS))


# All kinds in one wait: one of them runs at a time, since those that are stopped take nothing from it.
def test_an_http_client_that_was_stopped_ejects_nobody(servers):
    targets = [s.target for s in servers.open("a", "b", "c")]
    with contextlib.ExitStack() as ends:
        clients = []
        for kind in KINDS:
            client = StoppedClient(CLIENT, [kind, *targets], "answers")
            ends.callback(client.end)
            client.stop_once_served_by("abc")
            clients.append(client)
        pause(3)
        for client in clients:
            client.go_on()
            pause(1)
            after = client.heard()
            assert len(after["errors"]) <= CALLERS  # those that were under way when it was stopped
            assert after["ejections"] == 0
            answered, deadline = set(after["answers"]), Deadline(15)
            while answered != {"a", "b", "c"}:
                assert not deadline.passed, answered
                answered |= set(client.heard()["answers"])
            client.end()
