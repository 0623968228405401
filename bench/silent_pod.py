"""One pod of ten stops without a word: whose requests fail, for how long, and when is it used again?

Real processes and sockets. Nine servers in one process, the tenth in its own. After some seconds of load
the tenth falls silent: ``frozen`` by SIGSTOP, ``swallowed`` behind a proxy that takes everything and
passes nothing on, neither data nor ends of connections. Seconds later it is well again. Requests, gRPC
calls or GETs over HTTP/1.1, come open loop at a fixed rate, each with a deadline and no retry; one fails that ends with an error or takes
longer than a second. The second in which it *began* counts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from random import Random
from typing import Any

import aiohttp
import grpc
import grpc.aio
import httpx
from aiohttp import web

import trimtab
import trimtab.aio
import trimtab.aiohttp
import trimtab.httpx
from machine import publish

METHOD = "/trimtab.bench.Work/Do"
PODS = 10
DEADLINE_S, SLOW_S = 5.0, 1.0
OK = 200
Get = Callable[[], Awaitable[bytes | None]]
ROUND_ROBIN = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})
WAYS = ("frozen", "swallowed")
NATIVE = "native round_robin, asyncio"
HTTPX, AIOHTTP, PLAIN_HTTPX = "httpx, trimtab", "aiohttp, trimtab", "httpx, plain, in turn"
OVER_HTTP = (HTTPX, AIOHTTP, PLAIN_HTTPX)
CLIENTS = ("trimtab, asyncio", "trimtab, threads", NATIVE, *OVER_HTTP)
WARM_S, SILENT_S, AFTER_S = 3, 8, 7


async def passed(seconds: float) -> None:
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(seconds, done.set_result, None)
    await done


# The servers


async def serve(count: int, first: int, service_s: float) -> None:
    servers, ports = [], []
    for number in range(first, first + count):

        async def do(_request: bytes, _context: Any, name: bytes = b"%d" % number) -> bytes:
            await passed(service_s)
            return name

        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(do)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("trimtab.bench.Work", {"Do": handler}),)
        )
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        servers.append(server)
    print(json.dumps(ports), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for server in servers:
        await server.stop(None)


async def serve_http(count: int, first: int, service_s: float) -> None:
    runners, ports = [], []
    for number in range(first, first + count):

        async def do(_request: web.Request, name: bytes = b"%d" % number) -> web.Response:
            await passed(service_s)
            return web.Response(body=name)

        app = web.Application()
        app.router.add_get("/", do)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        ports.append(runner.addresses[0][1])
        runners.append(runner)
    print(json.dumps(ports), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for runner in runners:
        await runner.cleanup()


async def swallow(port: int) -> None:
    """A proxy in front of a server; each line of input makes it silent, or open again."""
    opened = asyncio.Event()
    opened.set()

    async def copy(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            await opened.wait()
            to.write(data)
        await opened.wait()
        to.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await opened.wait()
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(asyncio.CancelledError):  # the end, which needs no traceback
            await asyncio.gather(
                copy(reader, inner_writer), copy(inner_reader, writer), return_exceptions=True
            )

    proxy = await asyncio.start_server(accept, "127.0.0.1", 0)
    print(json.dumps([proxy.sockets[0].getsockname()[1]]), flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        opened.clear() if opened.is_set() else opened.set()


class Child:
    def __init__(self, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.ports: list[int] = json.loads(self.process.stdout.readline())

    def tell(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def send(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def end(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)


# The clients


class Seen:
    """Requests by the second in which they began."""

    def __init__(self) -> None:
        self.sent: Counter[int] = Counter()
        self.failed: Counter[int] = Counter()
        self.victim: Counter[int] = Counter()

    def note(self, second: int, took_s: float, answer: bytes | None) -> None:
        self.sent[second] += 1
        if answer is None or took_s > SLOW_S:
            self.failed[second] += 1
        elif answer == b"%d" % (PODS - 1):
            self.victim[second] += 1


async def load_on_loop(get: Get, rate: float, act: Callable[[int], None]) -> Seen:
    loop, seen, random = asyncio.get_running_loop(), Seen(), Random(1)
    tasks: set[asyncio.Task[None]] = set()

    async def one(begin: float, second: int) -> None:
        answer = await get()
        seen.note(second, loop.time() - begin, answer)

    await get()
    begin = due = loop.time()
    second = -1
    while (due := due + random.expovariate(rate)) < begin + WARM_S + SILENT_S + AFTER_S:
        if due > loop.time():
            await passed(due - loop.time())
        if int(due - begin) != second:
            second = int(due - begin)
            act(second)
        task = asyncio.create_task(one(loop.time(), second))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.wait(tasks)
    return seen


@contextlib.asynccontextmanager
async def over_grpc(channel: grpc.aio.Channel) -> AsyncIterator[Get]:
    stub: Any = channel.unary_unary(METHOD)

    async def get() -> bytes | None:
        try:
            answer: bytes = await stub(b"", timeout=DEADLINE_S)
        except grpc.aio.AioRpcError:
            return None
        return answer

    async with channel:
        await stub(b"", timeout=DEADLINE_S, wait_for_ready=True)
        yield get


@contextlib.asynccontextmanager
async def over_http(client: str, targets: list[str], policy: str | None) -> AsyncIterator[Get]:
    host = "work.shop:80"
    if client == AIOHTTP:
        balanced = trimtab.aiohttp.Middleware(endpoints={host: targets}, policy=policy)
        timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
        connector = aiohttp.TCPConnector(limit=0)
        async with balanced, aiohttp.ClientSession(
            middlewares=[balanced], timeout=timeout, connector=connector
        ) as session:  # fmt: skip

            async def get() -> bytes | None:
                try:
                    async with session.get(f"http://{host}/") as answer:
                        return await answer.read() if answer.status == OK else None
                except (aiohttp.ClientError, TimeoutError):
                    return None

            yield get
        return
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
    if client == HTTPX:
        transport = trimtab.httpx.AsyncTransport(
            endpoints={host: targets}, policy=policy, limits=limits
        )
        urls = cycle([f"http://{host}/"])
    else:
        transport = httpx.AsyncHTTPTransport(limits=limits)  # type: ignore[assignment]
        urls = cycle([f"http://{target}/" for target in targets])
    async with httpx.AsyncClient(transport=transport, timeout=DEADLINE_S) as session_:

        async def get_httpx() -> bytes | None:
            try:
                answer = await session_.get(next(urls))
            except httpx.TransportError:
                return None
            return answer.content if answer.status_code == OK else None

        yield get_httpx


def load_on_threads(channel: grpc.Channel, rate: float, act: Callable[[int], None]) -> Seen:
    clock, seen, random, lock = time.monotonic, Seen(), Random(1), threading.Lock()
    stub: Any = channel.unary_unary(METHOD)

    def one(begin: float, second: int) -> None:
        try:
            answer = stub(b"", timeout=DEADLINE_S)
        except grpc.RpcError:
            answer = None
        with lock:
            seen.note(second, clock() - begin, answer)

    stub(b"", timeout=DEADLINE_S, wait_for_ready=True)
    second, waiting = -1, threading.Event()
    with ThreadPoolExecutor(256) as callers:
        begin = due = clock()
        while (due := due + random.expovariate(rate)) < begin + WARM_S + SILENT_S + AFTER_S:
            if due > clock():
                waiting.wait(due - clock())
            if int(due - begin) != second:
                second = int(due - begin)
                act(second)
            callers.submit(one, clock(), second)
    channel.close()
    return seen


def measure(client: str, way: str, rate: float, service_ms: float, policy: str | None) -> Seen:
    serving = "--serve-http" if client in OVER_HTTP else "--serve"
    many, one = Child(serving, PODS - 1, 0, service_ms), Child(serving, 1, PODS - 1, service_ms)
    proxy = Child("--swallow", one.ports[0]) if way == "swallowed" else None
    try:
        ports = [*many.ports, *(proxy or one).ports]

        def act(second: int) -> None:
            if second == WARM_S:
                proxy.tell() if proxy else one.send(signal.SIGSTOP)
            if second == WARM_S + SILENT_S:
                proxy.tell() if proxy else one.send(signal.SIGCONT)

        endpoints = [f"127.0.0.1:{port}" for port in ports]
        if client == "trimtab, threads":
            channel = trimtab.insecure_channel("work", endpoints=endpoints, policy=policy)
            return load_on_threads(channel, rate, act)

        async def on_loop() -> Seen:
            if client in OVER_HTTP:
                calls = over_http(client, endpoints, policy)
            elif client == NATIVE:
                where, options = (
                    "ipv4:" + ",".join(endpoints),
                    [("grpc.service_config", ROUND_ROBIN)],
                )
                calls = over_grpc(grpc.aio.insecure_channel(where, options))
            else:
                made = trimtab.aio.insecure_channel("work", endpoints=endpoints, policy=policy)
                calls = over_grpc(made)
            async with calls as get:
                return await load_on_loop(get, rate, act)

        return asyncio.run(on_loop())
    finally:
        if proxy:
            proxy.end()
        many.end()
        one.end()


def row(client: str, way: str, runs: list[Seen]) -> str:
    def failed(*seconds: int) -> str:
        sent = sum(r.sent[s] for r in runs for s in seconds)
        bad = sum(r.failed[s] for r in runs for s in seconds)
        return f"{bad} of {sent} ({100 * bad / max(1, sent):.2f} %)"

    silent = range(WARM_S + 2, WARM_S + SILENT_S)
    after = range(WARM_S + SILENT_S, WARM_S + SILENT_S + AFTER_S)
    back = [
        next((s - after[0] for s in after if PODS * r.victim[s] > 0.5 * r.sent[s]), None)
        for r in runs
    ]
    again = ", ".join("not" if b is None else f"{b + 1}" for b in back)
    return (
        f"| {way} | {client} | {failed(WARM_S)} | {failed(WARM_S + 1)} | {failed(*silent)} "
        f"| {failed(*after)} | {again} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", nargs=3, type=float, help=argparse.SUPPRESS)
    parser.add_argument("--serve-http", nargs=3, type=float, help=argparse.SUPPRESS)
    parser.add_argument("--swallow", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=float, default=500.0, help="requests a second")
    parser.add_argument("--service-ms", type=float, default=10.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--policy", default=None)
    parser.add_argument("--client", action="append", choices=CLIENTS)
    parser.add_argument("--way", action="append", choices=WAYS)
    parser.add_argument("--write", help="a Markdown file for the table")
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve(int(given.serve[0]), int(given.serve[1]), given.serve[2] / 1e3))
        return
    if given.serve_http:
        count, first, service_ms = given.serve_http
        asyncio.run(serve_http(int(count), int(first), service_ms / 1e3))
        return
    if given.swallow:
        asyncio.run(swallow(given.swallow))
        return
    rows = [
        row(
            client,
            way,
            [
                measure(client, way, given.rate, given.service_ms, given.policy)
                for _ in range(given.runs)
            ],
        )
        for way in given.way or WAYS
        for client in given.client or CLIENTS
    ]
    body = (
        f"One of {PODS} pods is silent for {SILENT_S} s; {given.rate:g} requests a second of "
        f"{given.service_ms:g} ms, deadline {DEADLINE_S:g} s, no retries, no caller settings (over HTTP a GET whose connection breaks is repeated once). Failed: an error, or "
        f"more than {SLOW_S:g} s. {given.runs} runs of each.\n\n"
        "| way | client | failed in the first second | in the second | from then on | after its "
        "return | used again within [s], by run |\n|---|---|---|---|---|---|---|\n"
    )
    body += "\n".join(rows)
    body += "\n\nTarget: at most 0.5 % in the first second, none after two."
    publish("A silent pod", body, given.write, "grpcio", "httpx", "aiohttp")


if __name__ == "__main__":
    main()
