"""One server of ten gets SIGKILL under load: how many calls fail that may be made again?

Ten servers, each a process, 20 ms a call; 1,000 calls a second, evenly spaced, whatever becomes of them.
In the middle of each run one server is killed, and is not started again until the run is over. Peers run one
after the other in rounds: gRPC's own round_robin channels and trimtab's, asyncio and blocking, with and
without the same ``retryPolicy`` (three attempts on UNAVAILABLE).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import grpc
import grpc.aio

import trimtab
import trimtab.aio
from client_cpu import OWN, RETRY
from machine import publish

METHOD = "/trimtab.bench.Work/Do"
SERVERS, SERVICE_S, DEADLINE_S, THREADS = 10, 0.02, 5.0, 128
BALANCING = {"loadBalancingConfig": [{"round_robin": {}}]}
PEERS = {
    f"{who}, {door}{', retryPolicy' if again else ''}": (who, door, again)
    for door in ("asyncio", "blocking")
    for who in ("native round_robin", "trimtab")
    for again in (False, True)
}


async def passed(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    loop.call_later(max(0.0, seconds), over.set_result, None)
    await over


async def serve(port: int) -> None:
    async def do(_request: bytes, _context: object) -> bytes:
        await passed(SERVICE_S)
        return b""

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(do)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("trimtab.bench.Work", {"Do": handler}),)
    )
    print(server.add_insecure_port(f"127.0.0.1:{port}"), flush=True)
    await server.start()
    await asyncio.to_thread(sys.stdin.read)


class Server:
    """A process that can be killed and started again at its port."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()


def channel(who: str, module: Any, ours: Any, ports: list[int], config: dict[str, Any]) -> Any:
    targets = [f"127.0.0.1:{port}" for port in ports]
    if who == "trimtab":
        options = [("grpc.service_config", json.dumps(config))] if config else None
        return ours.insecure_channel("bench", options, endpoints=targets)
    told = ("grpc.service_config", json.dumps({**BALANCING, **config}))
    return module.insecure_channel("ipv4:" + ",".join(targets), options=[OWN, told])


async def load_aio(made: Any, rate: float, seconds: float, kill: Any) -> Counter[str]:
    found: Counter[str] = Counter()
    say = made.unary_unary(METHOD)

    async def one() -> None:
        try:
            await say(b"", timeout=DEADLINE_S)
            found["OK"] += 1
        except grpc.aio.AioRpcError as error:
            found[error.code().name] += 1

    begin, killing, calls = time.monotonic(), None, []
    for n in range(round(rate * seconds)):
        await passed(begin + n / rate - time.monotonic())
        if killing is None and n / rate >= seconds / 2:
            killing = asyncio.create_task(asyncio.to_thread(kill))
        calls.append(asyncio.create_task(one()))
    await asyncio.gather(*calls)
    if killing is not None:
        await killing
    return found


def load_blocking(made: Any, rate: float, seconds: float, kill: Any) -> Counter[str]:
    say = made.unary_unary(METHOD)

    def one() -> str:
        try:
            say(b"", timeout=DEADLINE_S)
        except grpc.RpcError as error:
            return str(error.code().name)
        return "OK"

    begin, killing, calls = time.monotonic(), None, []
    with ThreadPoolExecutor(THREADS) as callers:
        for n in range(round(rate * seconds)):
            pause = begin + n / rate - time.monotonic()
            if pause > 0.0:
                time.sleep(pause)
            if killing is None and n / rate >= seconds / 2:
                killing = callers.submit(kill)
            calls.append(callers.submit(one))
    return Counter(call.result() for call in calls)


async def one_run(peer: str, servers: list[Server], args: Any, victim: Server) -> Counter[str]:
    who, door, again = PEERS[peer]
    ports = [server.port for server in servers]
    config = RETRY if again else {}
    if door == "asyncio":
        async with channel(who, grpc.aio, trimtab.aio, ports, config) as made:
            await made.channel_ready()
            await passed(1.0)  # until all are connected
            return await load_aio(made, args.rate, args.seconds, victim.kill)
    with channel(who, grpc, trimtab, ports, config) as made:
        grpc.channel_ready_future(made).result(10)
        await passed(1.0)
        return await asyncio.to_thread(load_blocking, made, args.rate, args.seconds, victim.kill)


async def measure(args: Any, servers: list[Server]) -> str:
    found: dict[str, list[Counter[str]]] = {peer: [] for peer in PEERS}
    random = Random(1)
    for number in range(args.rounds):
        order = list(PEERS)
        random.shuffle(order)
        for peer in order:
            victim = random.choice(servers)
            found[peer].append(await one_run(peer, servers, args, victim))
            victim.start()
            print(number, peer, dict(found[peer][-1]), file=sys.stderr, flush=True)
    rows = ["| | calls per run | failed per run | all that failed |", "|---|---|---|---|"]
    verdicts = []
    for peer, runs in found.items():
        each = [run.total() - run["OK"] for run in runs]
        kinds = sum(runs, Counter()) - Counter(OK=sum(run["OK"] for run in runs))
        said = ", ".join(f"{n} {status}" for status, n in sorted(kinds.items())) or "0"
        rows.append(
            f"| {peer} | {statistics.mean(run.total() for run in runs):.0f} "
            f"| {', '.join(map(str, each))} | {said} |"
        )
        who, _, again = PEERS[peer]
        if who == "trimtab" and again:
            verdicts.append(f"{peer}: {sum(each)}, {'missed' if sum(each) else 'reached'}")
    return (
        "\n".join(rows)
        + "\n\nTarget: no call fails that may be made again. "
        + "; ".join(verdicts)
        + "."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", type=int, metavar="PORT", help=argparse.SUPPRESS)
    parser.add_argument("--write", metavar="FILE", help="write the page to FILE as well")
    parser.add_argument("--rate", type=float, default=1000.0, help="calls/s")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    if args.serve is not None:
        asyncio.run(serve(args.serve))
        return
    servers = [Server() for _ in range(SERVERS)]
    try:
        body = asyncio.run(measure(args, servers))
    finally:
        for server in servers:
            server.kill()
    publish(
        "One server of ten is killed",
        f"{SERVERS} servers, {SERVICE_S * 1e3:.0f} ms each; {args.rate:g} calls/s for {args.seconds:g} s, "
        f"one SIGKILL in the middle of each of {args.rounds} runs. Without a retry about "
        f"{args.rate / SERVERS * SERVICE_S:.0f} calls are at the server when it dies. The retryPolicy: three attempts on "
        f"UNAVAILABLE.\n\n{body}",
        args.write,
        "grpcio",
    )


if __name__ == "__main__":
    main()
