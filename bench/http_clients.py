"""What an HTTP request costs the client's processor with trimtab, beside the plain client in the same run.

One server process with eight ports on one core, this process on another. Blocks of requests alternate in
shuffled order; each block's processor time (all threads of this process) is divided by that of the plain
client's block in the same round. The second plain client is the control: what its ratio is off 1 is noise.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import aiohttp
import httpx
import httpx2
from aiohttp import web

import trimtab.aiohttp
import trimtab.httpx
import trimtab.httpx2
from machine import publish

PORTS, BATCH = 8, 40
HOST = "orders.shop:8080"
TARGETS = {1: 1.03, 20: 1.0}
PLAIN, AGAIN, ONE, EIGHT = (
    "plain, 1 host", "plain again (control)", "trimtab, 1 endpoint", "trimtab, 8 endpoints",
)  # fmt: skip
Get = Callable[[], Awaitable[None]]


async def serve() -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(
            body=b"x" * 100,
            headers={"endpoint-load-metrics": "TEXT named_metrics.in_flight=1"},
        )

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    ports = []
    for _ in range(PORTS):
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        ports.append(site._server.sockets[0].getsockname()[1])  # type: ignore[union-attr]  # noqa: SLF001
    print(json.dumps(ports), flush=True)
    await asyncio.to_thread(sys.stdin.read)  # until the client goes
    await runner.cleanup()


def of_httpx(library: Any, transports: Any, targets: list[str]) -> tuple[dict[str, Any], list[Any]]:
    def ours(some: list[str]) -> Any:
        return transports.AsyncTransport(endpoints={HOST: some})

    clients = {
        PLAIN: library.AsyncClient(),
        AGAIN: library.AsyncClient(),
        ONE: library.AsyncClient(transport=ours(targets[:1])),
        EIGHT: library.AsyncClient(transport=ours(targets)),
    }

    def getter(case: str) -> Get:
        client, url = clients[case], url_of(case, targets)

        async def get() -> None:
            answer = await client.get(url)
            assert answer.status_code == 200

        return get

    return {case: getter(case) for case in clients}, [c.aclose for c in clients.values()]


def of_aiohttp(targets: list[str]) -> tuple[dict[str, Any], list[Any]]:
    one, eight = (
        trimtab.aiohttp.Middleware(endpoints={HOST: some}) for some in (targets[:1], targets)
    )
    sessions = {
        PLAIN: aiohttp.ClientSession(),
        AGAIN: aiohttp.ClientSession(),
        ONE: aiohttp.ClientSession(middlewares=[one]),
        EIGHT: aiohttp.ClientSession(middlewares=[eight]),
    }

    def getter(case: str) -> Get:
        session, url = sessions[case], url_of(case, targets)

        async def get() -> None:
            async with session.get(url) as answer:
                await answer.read()
                assert answer.status == 200

        return get

    closing = [*(s.close for s in sessions.values()), one.close, eight.close]
    return {case: getter(case) for case in sessions}, closing


def url_of(case: str, targets: list[str]) -> str:
    return f"http://{targets[0] if case in {PLAIN, AGAIN} else HOST}/"


async def measure(gets: dict[str, Get], at_once: int, rounds: int) -> dict[str, list[float]]:
    random, found = Random(1), {case: [] for case in gets}

    async def block(get: Get) -> None:
        async def some() -> None:
            for _ in range(BATCH // at_once):
                await get()

        await asyncio.gather(*(some() for _ in range(at_once)))

    for get in gets.values():
        for _ in range(3):
            await block(get)
    gc.collect()
    gc.disable()
    for _ in range(rounds):
        order = list(gets)
        random.shuffle(order)
        for case in order:
            begun = time.process_time()
            await block(gets[case])
            found[case].append(1e6 * (time.process_time() - begun) / BATCH)
        gc.collect()
    gc.enable()
    return found


def table(found: dict[str, list[float]], at_once: int) -> str:
    rows = ["| | µs per request, median | ratio to plain, median | p25 |", "|---|---|---|---|"]
    reached = []
    for case, costs in found.items():
        ratios = [a / b for a, b in zip(costs, found[PLAIN], strict=True)]
        quarter, middle, _ = statistics.quantiles(ratios, n=4)
        rows.append(f"| {case} | {statistics.median(costs):.0f} | {middle:.3f} | {quarter:.3f} |")
        if case == EIGHT:
            most = TARGETS[at_once]
            reached.append(
                f"Target for {case}: at most {most:.2f}; "
                f"{'reached' if middle <= most else 'missed'} ({middle:.3f})."
            )
    return "\n".join(rows) + "\n\n" + " ".join(reached)


async def run(ports: list[int], rounds: int) -> str:
    targets = [f"127.0.0.1:{port}" for port in ports]
    parts = []
    for name, make in (
        ("httpx", lambda: of_httpx(httpx, trimtab.httpx, targets)),
        ("httpx2", lambda: of_httpx(httpx2, trimtab.httpx2, targets)),
        ("aiohttp", lambda: of_aiohttp(targets)),
    ):
        for at_once in (1, 20):
            gets, closing = make()
            found = await measure(gets, at_once, rounds)
            for close in closing:
                await close()
            parts.append(f"## {name}, {at_once} at once\n\n{table(found, at_once)}")
            print(f"{name}, {at_once} at once: done", flush=True)
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", metavar="FILE", help="write the page to FILE as well")
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if options.serve:
        os.sched_setaffinity(0, {cores[-1]})
        asyncio.run(serve())
        return
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        ports = json.loads(server.stdout.readline())
        os.sched_setaffinity(0, {cores[0]})
        body = asyncio.run(run(ports, options.rounds))
    finally:
        server.communicate()
    publish(
        "An HTTP request's processor time",
        f"Processor time of the whole client process per GET of 100 bytes, HTTP/1.1, on one core; the "
        f"server on another. {options.rounds} rounds of {BATCH} requests. Ratios are within a round. Each "
        "endpoint has a pool of its own, and what httpx spends grows with the connections in a pool: that, "
        f"and not the choice of an endpoint, is why a ratio can be below 1.\n\n{body}",
        options.write,
        "httpx",
        "httpx2",
        "aiohttp",
    )


if __name__ == "__main__":
    main()
