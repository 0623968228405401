"""Is a call that nobody declared safe ever executed twice? Counted by the servers, while they are killed.

Six servers, each a process; every second or so one gets SIGKILL in the middle of its work and is started again
at its port. Each request carries a number of its own, and a server writes it to a file before it answers, so
that what it did outlives it. Between the two it rests for 5 to 20 ms, so that most calls that a kill meets have been
executed already: were they made again, it would show. Calls that were declared are, and are the control. At the end
the files are compared with what the client was told.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import grpc
import grpc.aio

import trimtab
import trimtab.aio

ROOT = Path(__file__).parents[1]
SERVICE, PLAIN, AGAIN = "trimtab.chaos.Work", "Do", "DoAgain"
SERVERS, CALLERS, KILL_EVERY_S, DEADLINE_S = 6, 64, 1.0, 5.0
REST_S = (0.005, 0.02)
DOORS = ("asyncio", "threads")
NUMBER = struct.Struct("<Q")
RETRIES = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{"service": SERVICE, "method": AGAIN}],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.005s",
                    "maxBackoff": "0.1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)


async def passed(seconds: float) -> None:
    """Let so much time pass."""
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    loop.call_later(seconds, over.set_result, None)
    await over


async def serve(port: int, path: str) -> None:
    """One server; what it executes stands in the file before the answer leaves."""
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    random = Random(port)

    async def do(request: bytes, _context: object) -> bytes:
        os.write(log, request)
        await passed(random.uniform(*REST_S))
        return b""

    handler = grpc.unary_unary_rpc_method_handler(do)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {PLAIN: handler, AGAIN: handler}),)
    )
    print(server.add_insecure_port(f"127.0.0.1:{port}"), flush=True)
    await server.start()
    await asyncio.to_thread(sys.stdin.read)


class Server:
    """One server, in one life after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.port = 0
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "chaos.executions", "--serve", str(self.port), str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()


@dataclass
class Told:
    """What the client was told, by method: which numbers went well, and how many failed how."""

    good: dict[str, set[int]] = field(default_factory=lambda: {PLAIN: set(), AGAIN: set()})
    failed: dict[str, Counter[str]] = field(
        default_factory=lambda: {PLAIN: Counter(), AGAIN: Counter()}
    )
    kills: int = 0


def mixed(calls: dict[str, int], random: Random) -> Iterator[tuple[str, int]]:
    """So many calls of each method, their numbers even for ``PLAIN`` and odd for ``AGAIN``."""
    every = [(name, 2 * n + (name == AGAIN)) for name, count in calls.items() for n in range(count)]
    random.shuffle(every)
    return iter(every)


def channel_to(servers: list[Server], make: Callable[..., Any]) -> Any:
    targets = [f"127.0.0.1:{server.port}" for server in servers]
    return make("work", [("grpc.service_config", RETRIES)], endpoints=targets)


async def load(servers: list[Server], calls: dict[str, int], random: Random) -> Told:
    """Callers that are tasks."""
    told = Told()
    async with channel_to(servers, trimtab.aio.insecure_channel) as channel:
        await channel.channel_ready()
        methods = {name: channel.unary_unary(f"/{SERVICE}/{name}") for name in calls}
        numbers = mixed(calls, random)

        async def caller() -> None:
            for name, number in numbers:
                try:
                    await methods[name](
                        NUMBER.pack(number), timeout=DEADLINE_S, wait_for_ready=True
                    )
                    told.good[name].add(number)
                except grpc.aio.AioRpcError as error:
                    told.failed[name][error.code().name] += 1

        killing = asyncio.create_task(kill(servers, told, random))
        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        killing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await killing
    return told


async def kill(servers: list[Server], told: Told, random: Random) -> None:
    while True:
        await passed(KILL_EVERY_S * random.uniform(0.5, 1.5))
        server = random.choice(servers)
        await asyncio.to_thread(server.kill)
        told.kills += 1
        await asyncio.to_thread(server.start)


def load_blocking(servers: list[Server], calls: dict[str, int], random: Random) -> Told:
    """Callers that are threads. They don't wait for a connection, so that some calls reach nobody."""
    told = Told()
    over = threading.Event()
    with channel_to(servers, trimtab.insecure_channel) as channel:
        grpc.channel_ready_future(channel).result(DEADLINE_S)
        methods = {name: channel.unary_unary(f"/{SERVICE}/{name}") for name in calls}
        numbers = mixed(calls, random)
        taking = threading.Lock()

        def caller() -> None:
            while True:
                with taking:
                    name, number = next(numbers, ("", 0))
                if not name:
                    return
                try:
                    methods[name](NUMBER.pack(number), timeout=DEADLINE_S)
                except grpc.RpcError as error:
                    with taking:
                        told.failed[name][error.code().name] += 1
                else:
                    with taking:
                        told.good[name].add(number)

        def killer() -> None:
            while not over.wait(KILL_EVERY_S * random.uniform(0.5, 1.5)):
                server = random.choice(servers)
                server.kill()
                told.kills += 1
                server.start()

        killing = threading.Thread(target=killer)
        killing.start()
        with ThreadPoolExecutor(CALLERS) as callers:
            done = [callers.submit(caller) for _ in range(CALLERS)]
        over.set()
        killing.join()
        for each in done:
            each.result()
    return told


@dataclass(frozen=True)
class Counted:
    """One method's executions beside what the client was told.

    Attributes:
        calls: made.
        good: of these ended well.
        failed: by status.
        twice: numbers executed more than once.
        lost: numbers that ended well and were never executed.
        unknown: numbers that failed although they were executed.
    """

    calls: int
    good: int
    failed: Counter[str]
    twice: int
    lost: int
    unknown: int


def count(name: str, calls: int, told: Told, executed: Counter[int]) -> Counted:
    own = Counter({n: times for n, times in executed.items() if n % 2 == (name == AGAIN)})
    good = told.good[name]
    return Counted(
        calls,
        len(good),
        told.failed[name],
        sum(times > 1 for times in own.values()),
        len(good - own.keys()),
        len(own.keys() - good),
    )


def measure(
    calls: dict[str, int], seed: int = 1, door: str = "asyncio"
) -> tuple[dict[str, Counted], int]:
    """By method what was counted, and how many servers were killed."""
    with tempfile.TemporaryDirectory() as directory:
        servers = [Server(Path(directory) / str(n)) for n in range(SERVERS)]
        try:
            if door == "asyncio":
                told = asyncio.run(load(servers, calls, Random(seed)))
            else:
                told = load_blocking(servers, calls, Random(seed))
        finally:
            for server in servers:
                server.kill()
        executed: Counter[int] = Counter()
        for server in servers:
            executed.update(n for (n,) in NUMBER.iter_unpack(server.path.read_bytes()))
    return {name: count(name, n, told, executed) for name, n in calls.items()}, told.kills


def row(what: str, counted: Counted) -> str:
    failed = ", ".join(f"{n} {status}" for status, n in sorted(counted.failed.items())) or "0"
    return (
        f"| {what} | {counted.calls:,} | {counted.good:,} | {failed} | {counted.twice} "
        f"| {counted.lost} | {counted.unknown} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m chaos.executions", description=__doc__)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--calls", type=int, default=1_000_000, help="of which nothing is declared")
    parser.add_argument("--declared", type=int, default=100_000, help="that may run again")
    parser.add_argument("--write", metavar="FILE", help="write the page to FILE as well")
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve(int(given.serve[0]), given.serve[1]))
        return
    sys.path.insert(0, str(ROOT / "bench"))
    from machine import publish  # noqa: PLC0415 - found on the path that was made just now

    rows, kills, missed = [], 0, 0
    for door in DOORS:
        share = 1 if door == "asyncio" else 5  # threads take five times as long
        found, killed = measure(
            {PLAIN: given.calls // share, AGAIN: given.declared // share}, door=door
        )
        kills += killed
        rows.append(row(f"{door}, nothing declared", found[PLAIN]))
        again = found[AGAIN]
        rows.append(row(f"{door}, declared: up to 3 attempts on UNAVAILABLE", again))
        if not again.twice:
            raise SystemExit(f"{door}: no declared call was executed twice: this shows nothing")
        missed += sum(again.failed.values())
    publish(
        "Executions, counted by the servers",
        f"{__doc__.partition(chr(10))[2].strip()}\n\n{kills} kills; {CALLERS} callers on a channel, asyncio's or "
        f"threads, {SERVERS} servers.\n\n"
        "| calls | made | ended well | failed | executed more than once | ended well and never executed "
        "| failed and yet executed |\n|---|---|---|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n\nA call of which nothing is declared must never be executed more than once; one that was declared "
        "may be, and is where a server died between the work and the answer. "
        f"Of those none should fail: {'reached' if not missed else f'missed, {missed} did'}.",
        given.write,
        "grpcio",
    )


if __name__ == "__main__":
    main()
