"""Eight servers, one of them three times slower: whose requests wait?

Real sockets. Each server works on four requests at once, 20 ms each (the slow one 60 ms), the rest
queue; its answers carry load reports. Clients send open loop at a fixed total rate. The peers run one
after the other in rounds, in the same servers: trimtab's policies, native gRPC's round_robin, and Envoy
with LEAST_REQUEST. After a while the slow server recovers; how long does it take to its fair share?

With --even N all servers stay equal, and each peer sends N requests: how evenly?
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import grpc.aio

import trimtab.aio
from machine import publish
from silenced import passed
from trimtab.load_codec import HEADER, encode
from trimtab.model import PolicyConfig
from trimtab.server.load_meter import LoadMeter

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from harness.envoy import Envoy

METHOD = "/trimtab.bench.Work/Do"
SERVERS, WORKERS = 8, 4
SERVICE_S, SLOWER = 0.020, 3.0
ROUND_ROBIN = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})
PEERS = ("trimtab token", "trimtab p2c", "native round_robin", "Envoy least request")


# The servers


class Work:
    def __init__(self, number: int) -> None:
        self._name = str(number).encode()
        self._workers = asyncio.Semaphore(WORKERS)
        self._meter = LoadMeter()
        self.seconds = SERVICE_S

    async def do(self, _request: bytes, context: Any) -> bytes:
        clock = asyncio.get_running_loop().time
        begin, found = clock(), self._meter.begin()
        async with self._workers:
            await passed(self.seconds)
        self._meter.end(found, clock() - begin)
        context.set_trailing_metadata(((HEADER, encode(self._meter.report())),))
        return self._name


async def serve() -> None:
    ports, works = [], []
    servers = []
    for number in range(SERVERS):
        work = Work(number)
        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(work.do)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("trimtab.bench.Work", {"Do": handler}),)
        )
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        servers.append(server)
        works.append(work)
    print(json.dumps(ports), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        works[0].seconds = SERVICE_S * float(line)
    for server in servers:
        await server.stop(None)


# The clients


class Seen:
    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.picks: Counter[bytes] = Counter()
        self.by_second: list[Counter[bytes]] = []
        self.failed = 0


async def load(stubs: list[Any], rate: float, seconds: float, random: Random) -> Seen:
    """Poisson arrivals, each at a client drawn at random."""
    loop = asyncio.get_running_loop()
    seen = Seen()
    tasks: set[asyncio.Task[None]] = set()
    begin = loop.time()
    due = begin

    async def one(stub: Any, second: int) -> None:
        sent = loop.time()
        try:
            server = await stub(b"", timeout=20)
        except grpc.aio.AioRpcError:
            seen.failed += 1
            return
        seen.latencies.append(loop.time() - sent)
        seen.picks[server] += 1
        while len(seen.by_second) <= second:
            seen.by_second.append(Counter())
        seen.by_second[second][server] += 1

    while due < begin + seconds:
        wait = due - loop.time()
        if wait > 0:
            await passed(wait)
        task = asyncio.create_task(one(random.choice(stubs), int(due - begin)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        due += random.expovariate(rate)
    if tasks:
        await asyncio.wait(tasks)
    return seen


def envoy_bootstrap(ports: list[int]) -> str:
    http2 = {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }
    endpoints = [
        {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}
        for port in ports
    ]
    limits = {"max_connections": 9999, "max_pending_requests": 99999, "max_requests": 99999}
    cluster = {
        "name": "work",
        "type": "STATIC",
        "lb_policy": "LEAST_REQUEST",
        "typed_extension_protocol_options": http2,
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {"cluster_name": "work", "endpoints": [{"lb_endpoints": endpoints}]},
    }
    connections = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network"
        ".http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "codec_type": "HTTP2",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {"match": {"prefix": "/"}, "route": {"cluster": "work", "timeout": "0s"}}
                    ],
                }
            ]
        },
        "http_filters": [
            {
                "name": "router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                },
            }
        ],
    }
    listener = {
        "name": "tests",  # where the harness looks
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": connections}]}],
    }
    admin = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}}
    return json.dumps(
        {"admin": admin, "static_resources": {"listeners": [listener], "clusters": [cluster]}}
    )


def channels(peer: str, n: int, ports: list[int], envoy: str) -> list[Any]:
    targets = [f"127.0.0.1:{port}" for port in ports]
    if peer.startswith("trimtab"):
        policy = PolicyConfig(peer.split()[1])
        return [
            trimtab.aio.insecure_channel("bench", endpoints=targets, policy=policy)
            for _ in range(n)
        ]
    own = ("grpc.use_local_subchannel_pool", 1)
    if peer.startswith("Envoy"):
        return [grpc.aio.insecure_channel(envoy, options=[own]) for _ in range(n)]
    where = "ipv4:" + ",".join(targets)
    options = [own, ("grpc.service_config", ROUND_ROBIN)]
    return [grpc.aio.insecure_channel(where, options=options) for _ in range(n)]


async def ready(channel: Any) -> None:
    """All endpoints are connected, where the channel says so."""
    await channel.channel_ready()
    while not all(node.connected for node in channel.trimtab.nodes.values()):
        await passed(0.01)


async def evenly(peer: str, clients: int, ports: list[int], envoy: str, args: Any) -> Seen:
    made = channels(peer, clients, ports, envoy)
    try:
        for channel in made:
            await (ready(channel) if hasattr(channel, "trimtab") else channel.channel_ready())
        stubs = [channel.unary_unary(METHOD) for channel in made]
        return await load(stubs, args.rate, args.even / args.rate, Random(clients))
    finally:
        for channel in made:
            await channel.close()


async def measure_even(args: Any, ports: list[int]) -> str:
    rows = [
        "| | clients | requests | max/mean | min/mean | failed |",
        "|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as directory:
        envoy = Envoy("bench", envoy_bootstrap(ports), Path(directory))
        try:
            envoy.wait_ready()
            for clients in args.clients:
                for peer in (*PEERS, "trimtab random"):
                    seen = await evenly(peer, clients, ports, envoy.road("work").target, args)
                    picks = [seen.picks[str(n).encode()] for n in range(SERVERS)]
                    mean = sum(picks) / SERVERS
                    rows.append(
                        f"| {peer} | {clients} | {sum(picks):,} | {max(picks) / mean:.3f} | "
                        f"{min(picks) / mean:.3f} | {seen.failed} |"
                    )
                    print(rows[-1], file=sys.stderr, flush=True)
        finally:
            envoy.stop()
    return "\n".join(rows)


async def one_peer(
    peer: str, clients: int, ports: list[int], envoy: str, server: Any, args: Any, random: Random
) -> dict[str, float]:
    made = channels(peer, clients, ports, envoy)
    for channel in made:
        await channel.channel_ready()
    stubs = [channel.unary_unary(METHOD) for channel in made]

    def speed(factor: float) -> None:
        server.stdin.write(f"{factor}\n".encode())
        server.stdin.flush()

    try:
        speed(1.0)
        even = await load(stubs, args.rate, args.seconds, random)
        speed(SLOWER)
        await load(stubs, args.rate, 1.0, random)
        slow = await load(stubs, args.rate, args.seconds, random)
        speed(1.0)
        after = await load(stubs, args.rate, 10.0, random)
    finally:
        for channel in made:
            await channel.close()
    fair = args.rate / SERVERS
    back = next((s + 1 for s, picks in enumerate(after.by_second) if picks[b"0"] >= 0.8 * fair), 99)
    picks = [even.picks[str(n).encode()] for n in range(SERVERS)]
    return {
        "even p99": quantile(even.latencies, 0.99) * 1e3,
        "max/mean": max(picks) / (sum(picks) / SERVERS),
        "p50": quantile(slow.latencies, 0.5) * 1e3,
        "p99": quantile(slow.latencies, 0.99) * 1e3,
        "share": 100 * slow.picks[b"0"] / max(1, sum(slow.picks.values())) * SERVERS,
        "back": float(back),
        "failed": float(even.failed + slow.failed + after.failed),
    }


def quantile(values: list[float], q: float) -> float:
    return sorted(values)[int(len(values) * q)] if values else float("nan")


async def measure(args: Any, ports: list[int], server: Any) -> str:
    parts = []
    with tempfile.TemporaryDirectory() as directory:
        envoy = Envoy("bench", envoy_bootstrap(ports), Path(directory))
        try:
            envoy.wait_ready()
            through = envoy.road("work").target
            for clients in args.clients:
                found: dict[str, list[dict[str, float]]] = {peer: [] for peer in PEERS}
                for number in range(args.rounds):
                    order = list(PEERS)
                    Random(number).shuffle(order)
                    for peer in order:
                        random = Random(number)
                        found[peer].append(
                            await one_peer(peer, clients, ports, through, server, args, random)
                        )
                        print(clients, number, peer, found[peer][-1], file=sys.stderr, flush=True)
                parts.append(f"## {clients} clients\n\n{table(found)}")
        finally:
            envoy.stop()
    return "\n\n".join(parts)


def table(found: dict[str, list[dict[str, float]]]) -> str:
    columns = (
        "equal: p99",
        "max/mean",
        "one slow: p50",
        "p99",
        "p99 / service time",
        "part of its fair share that the slow one gets",
        "back at 80 % after",
        "failed",
    )
    rows = [
        f"| | {' | '.join(columns)} |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for peer, runs in found.items():
        m = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        rows.append(
            f"| {peer} | {m['even p99']:.0f} ms | {m['max/mean']:.2f} | {m['p50']:.0f} ms | "
            f"{m['p99']:.0f} ms | {m['p99'] / SERVICE_S / 1e3:.1f} | {m['share']:.0f} % | "
            f"{m['back']:.0f} s | {sum(run['failed'] for run in runs):.0f} |"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", metavar="FILE", help="write the page to FILE as well")
    parser.add_argument("--rate", type=float, default=600.0, help="requests/s in total")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each phase")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, nargs="+", default=[4, 20, 200])
    parser.add_argument("--even", type=int, metavar="N", help="see above")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if args.serve:
        os.sched_setaffinity(0, {cores[-1]})
        asyncio.run(serve())
        return
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        ports = json.loads(server.stdout.readline())
        if args.even:
            body = asyncio.run(measure_even(args, ports))
        else:
            body = asyncio.run(measure(args, ports, server))
    finally:
        server.communicate()
    if args.even:
        publish(
            "How evenly equal servers are used",
            f"{SERVERS} servers of {WORKERS} workers, {SERVICE_S * 1e3:.0f} ms each. {args.rate:g} "
            f"requests/s in total, Poisson, each at a client drawn at random.\n\n{body}\n\n"
            "Targets for max/mean: trimtab p2c at most 1.05, trimtab token at most 1.10.",
            args.write,
            "grpcio",
        )
        return
    publish(
        "One slow server of eight",
        f"{SERVERS} servers of {WORKERS} workers, {SERVICE_S * 1e3:.0f} ms each; one takes {SLOWER:g} "
        f"times as long. {args.rate:g} requests/s in total, Poisson; medians of {args.rounds} rounds of "
        f"{args.seconds:g} s per phase.\n\n{body}",
        args.write,
        "grpcio",
    )


if __name__ == "__main__":
    main()
