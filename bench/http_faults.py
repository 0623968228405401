"""Pods that end under load, over HTTP: one is killed, or all are replaced in place, one after the other.

Real processes and sockets, ten pods that listen on fixed ports. Requests (GET, HTTP/1.1) come open loop at a
fixed rate; one fails that ends with an error or takes longer than a second. ``killed``: SIGKILL for one pod, which
is back three seconds later. ``replaced``: SIGTERM for one pod per second, which ends in order (it stops listening
and finishes what it has), and begins anew at once.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import subprocess
import sys

from aiohttp import web

from machine import publish
from silent_pod import (
    AIOHTTP,
    HTTPX,
    PLAIN_HTTPX,
    PODS,
    SLOW_S,
    WARM_S,
    Seen,
    load_on_loop,
    over_http,
    passed,
)

WAYS = ("killed", "replaced")
AWAY_S = 3
LOAD_S = WARM_S + PODS + 5


async def serve(number: int, port: int, service_s: float) -> None:
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)

    async def do(_request: web.Request) -> web.Response:
        await passed(service_s)
        return web.Response(body=b"%d" % number)

    app = web.Application()
    app.router.add_get("/", do)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await ending.wait()
    await runner.cleanup()


class Pod:
    """A server process, and the next one on its port."""

    def __init__(self, number: int, service_ms: float) -> None:
        self._number = number
        self._service_ms = service_ms
        self._processes: list[subprocess.Popen[str]] = []
        self.port = 0
        self.begin()
        line = self._processes[0].stdout
        assert line is not None
        self.port = int(line.readline())

    def begin(self) -> None:
        arguments = ["--serve", self._number, self.port, self._service_ms]
        self._processes.append(
            subprocess.Popen(
                [sys.executable, __file__, *map(str, arguments)], stdout=subprocess.PIPE, text=True
            )
        )

    def send(self, number: int) -> None:
        self._processes[-1].send_signal(number)

    async def replace(self) -> None:
        """The next one needs the port: it begins when the old one has ended."""
        self.send(signal.SIGTERM)
        await asyncio.to_thread(self._processes[-1].wait)
        self.begin()

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()


def measure(client: str, way: str, rate: float, service_ms: float) -> Seen:
    pods = [Pod(number, service_ms) for number in range(PODS)]
    replacing: set[asyncio.Task[None]] = set()

    def act(second: int) -> None:
        if way == "killed" and second == WARM_S:
            pods[-1].send(signal.SIGKILL)
        if way == "killed" and second == WARM_S + AWAY_S:
            pods[-1].begin()
        if way == "replaced" and 0 <= second - WARM_S < PODS:
            replacing.add(asyncio.get_running_loop().create_task(pods[second - WARM_S].replace()))

    async def run() -> Seen:
        async with over_http(client, [f"127.0.0.1:{pod.port}" for pod in pods], None) as get:
            return await load_on_loop(get, rate, LOAD_S, act)

    try:
        return asyncio.run(run())
    finally:
        for pod in pods:
            pod.end()


def row(client: str, way: str, runs: list[Seen]) -> str:
    sent = sum(sum(run.sent.values()) for run in runs)
    failed = [sum(run.failed.values()) for run in runs]
    last = sum(n for run in runs for s, n in run.failed.items() if s >= WARM_S + PODS + 1)
    each = ", ".join(map(str, failed))
    return f"| {way} | {client} | {sum(failed)} of {sent} ({100 * sum(failed) / sent:.3f} %) | {each} | {last} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", nargs=3, type=float, help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=float, default=500.0, help="requests a second")
    parser.add_argument("--service-ms", type=float, default=10.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--client", action="append", choices=(HTTPX, AIOHTTP, PLAIN_HTTPX))
    parser.add_argument("--way", action="append", choices=WAYS)
    parser.add_argument("--write", help="a Markdown file for the table")
    given = parser.parse_args()
    if given.serve:
        number, port, service_ms = given.serve
        asyncio.run(serve(int(number), int(port), service_ms / 1e3))
        return
    rows = [
        row(
            client,
            way,
            [measure(client, way, given.rate, given.service_ms) for _ in range(given.runs)],
        )
        for way in given.way or WAYS
        for client in given.client or (HTTPX, AIOHTTP, PLAIN_HTTPX)
    ]
    body = (
        f"{PODS} pods; {given.rate:g} GETs a second of {given.service_ms:g} ms over HTTP/1.1, no caller settings. "
        f"Killed: SIGKILL for one, back after {AWAY_S} s. Replaced: each in turn, one a second, in order and "
        f"in place. Failed: an error, or more than {SLOW_S:g} s. {given.runs} runs of each. The plain client "
        "takes the addresses in turn.\n\n| way | client | failed | by run | of them in the last seconds, all being well |\n"
        "|---|---|---|---|---|\n"
    )
    body += (
        "\n".join(rows)
        + "\n\nTarget for trimtab: none of these requests, which may all be repeated.\n\n"
        "A request that takes 5 s is cancelled from outside, which httpx by itself never does. The plain client sometimes fails "
        "most requests from then on, though all pods are well; why was not looked into, so its last columns may say more of "
        "that than of the fault."
    )
    publish("HTTP pods that end under load", body, given.write, "httpx", "aiohttp")


if __name__ == "__main__":
    main()
