"""Numbered work over HTTP: ``python -m chaos.work_http PORT PATH`` is a server; the doors are its clients.

POST is what nothing is declared of; PUT may be repeated by the method's own meaning (RFC 9110, 9.2.2).
"""

import asyncio
import sys
from random import Random
from typing import Any

import aiohttp
import httpx
from aiohttp import web

import trimtab
from chaos.work import (
    AGAIN,
    DEADLINE_S,
    PLAIN,
    Server,
    Told,
    Work,
    call_from_tasks,
    call_from_threads,
    killing,
    mixed,
)
from trimtab.aiohttp import Middleware
from trimtab.httpx import AsyncTransport, Transport

URL, CLUSTER = "http://work.chaos/", "work.chaos:80"
METHODS = {PLAIN: "POST", AGAIN: "PUT"}
RETRIES = {"PUT": trimtab.Retry(on=(503,))}
OK = 200


async def serve(port: int, path: str) -> None:
    work = Work(path)

    async def do(request: web.Request) -> web.Response:
        await work.do(await request.read())
        return web.Response()

    app = web.Application()
    app.router.add_post("/", do)
    app.router.add_put("/", do)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


def steered(servers: list[Server]) -> dict[str, Any]:
    return {"endpoints": {CLUSTER: [server.target for server in servers]}, "retries": RETRIES}


def as_failure(status: int) -> str | None:
    return None if status == OK else str(status)


async def _through_httpx(servers: list[Server], calls: dict[str, int], random: Random) -> Told:
    told = Told()
    transport = AsyncTransport(**steered(servers))
    async with httpx.AsyncClient(transport=transport, timeout=DEADLINE_S) as client:

        async def call(name: str, number: bytes) -> str | None:
            try:
                response = await client.request(METHODS[name], URL, content=number)
            except httpx.TransportError as error:
                return type(error).__name__
            return as_failure(response.status_code)

        with killing(servers, told, random):
            await call_from_tasks(call, mixed(calls, random), told)
    return told


def through_httpx(servers: list[Server], calls: dict[str, int], random: Random) -> Told:
    """Callers that are tasks."""
    return asyncio.run(_through_httpx(servers, calls, random))


def through_httpx_in_threads(servers: list[Server], calls: dict[str, int], random: Random) -> Told:
    """Callers that are threads."""
    told = Told()
    with httpx.Client(transport=Transport(**steered(servers)), timeout=DEADLINE_S) as client:

        def call(name: str, number: bytes) -> str | None:
            try:
                response = client.request(METHODS[name], URL, content=number)
            except httpx.TransportError as error:
                return type(error).__name__
            return as_failure(response.status_code)

        with killing(servers, told, random):
            call_from_threads(call, mixed(calls, random), told)
    return told


async def _through_aiohttp(servers: list[Server], calls: dict[str, int], random: Random) -> Told:
    told = Told()
    timeout = aiohttp.ClientTimeout(total=DEADLINE_S, sock_connect=1.0)
    async with (
        Middleware(**steered(servers)) as balanced,
        aiohttp.ClientSession(middlewares=[balanced], timeout=timeout) as session,
    ):

        async def call(name: str, number: bytes) -> str | None:
            try:
                async with session.request(METHODS[name], URL, data=number) as response:
                    await response.read()
            except (aiohttp.ClientError, TimeoutError) as error:
                return type(error).__name__
            return as_failure(response.status)

        with killing(servers, told, random):
            await call_from_tasks(call, mixed(calls, random), told)
    return told


def through_aiohttp(servers: list[Server], calls: dict[str, int], random: Random) -> Told:
    """Callers that are tasks."""
    return asyncio.run(_through_aiohttp(servers, calls, random))


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
