"""Hedging: what does a second attempt at p95 save, and what does it cost?

The servers and the load of slow_pod.py: eight, one of them slower. Peers run one after the other in
rounds: the default policy and round robin, each without hedging and with ``hedge_quantile=0.95``. What a
hedge costs is counted where attempts are: in the balancers' picks, of which a request has one or more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import slow_pod
import trimtab.aio
from machine import publish
from trimtab import Retry

QUANTILE = 0.95
LEAST_GAIN, MOST_MORE = 2.0, 6.0
PEERS = {
    f"{policy}{', hedged' if hedged else ''}": (policy, hedged)
    for policy in ("token", "round_robin")
    for hedged in (False, True)
}


def attempts(channels: list[Any]) -> int:
    return sum(node.picks for channel in channels for node in channel.trimtab.nodes.values())


async def one_peer(peer: str, ports: list[int], args: Any, random: Random) -> dict[str, float]:
    policy, hedged = PEERS[peer]
    retry = Retry(attempts=2, hedge_quantile=QUANTILE) if hedged else None
    targets = [f"127.0.0.1:{port}" for port in ports]
    made = [
        trimtab.aio.insecure_channel("bench", endpoints=targets, policy=policy, retry=retry)
        for _ in range(args.clients)
    ]
    try:
        for channel in made:
            await slow_pod.ready(channel)
        stubs = [channel.unary_unary(slow_pod.METHOD) for channel in made]
        await slow_pod.load(stubs, args.rate, args.warm, random)
        before = attempts(made)
        seen = await slow_pod.load(stubs, args.rate, args.seconds, random)
        requests = len(seen.latencies) + seen.failed
        return {
            "p50": slow_pod.quantile(seen.latencies, 0.5) * 1e3,
            "p99": slow_pod.quantile(seen.latencies, 0.99) * 1e3,
            "p99.9": slow_pod.quantile(seen.latencies, 0.999) * 1e3,
            "more": 100 * ((attempts(made) - before) / requests - 1),
            "failed": float(seen.failed),
        }
    finally:
        for channel in made:
            await channel.close()


async def measure(args: Any, ports: list[int]) -> str:
    found: dict[str, list[dict[str, float]]] = {peer: [] for peer in PEERS}
    for number in range(args.rounds):
        order = list(PEERS)
        Random(number).shuffle(order)
        for peer in order:
            found[peer].append(await one_peer(peer, ports, args, Random(number)))
            print(number, peer, found[peer][-1], file=sys.stderr, flush=True)
    rows = [
        "| | p50 | p99 | p99.9 | more requests | failed |",
        "|---|---|---|---|---|---|",
    ]
    medians = {
        peer: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        for peer, runs in found.items()
    }
    for peer, runs in found.items():
        m = medians[peer]
        rows.append(
            f"| {peer} | {m['p50']:.0f} ms | {m['p99']:.0f} ms | {m['p99.9']:.0f} ms | "
            f"{m['more']:.1f} % | {sum(run['failed'] for run in runs):.0f} |"
        )
    verdicts = [
        verdict(policy, medians[policy], medians[f"{policy}, hedged"])
        for policy in ("token", "round_robin")
    ]
    return "\n".join(rows) + "\n\n" + "\n".join(verdicts)


def verdict(policy: str, plain: dict[str, float], hedged: dict[str, float]) -> str:
    """Whether the targets are reached, in words."""
    gain = plain["p99"] / hedged["p99"]
    gained = "reached" if gain >= LEAST_GAIN else "missed"
    cheap = "reached" if hedged["more"] <= MOST_MORE else "missed"
    return (
        f"- {policy}, hedged: p99 divided by {gain:.1f} (target: by {LEAST_GAIN:g}): **{gained}**; "
        f"{hedged['more']:.1f} % more requests (target: at most {MOST_MORE:g} %): **{cheap}**"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", metavar="FILE", help="write the page to FILE as well")
    parser.add_argument("--rate", type=float, default=400.0, help="requests/s in total")
    parser.add_argument("--warm", type=float, default=3.0, help="seconds before each measurement")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument(
        "--slower", type=float, default=10.0, help="how many times, for one of eight"
    )
    args = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    script = Path(__file__).with_name("slow_pod.py")
    server = subprocess.Popen(
        [sys.executable, str(script), "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        assert server.stdin is not None
        ports = json.loads(server.stdout.readline())
        server.stdin.write(f"{args.slower}\n".encode())
        server.stdin.flush()
        body = asyncio.run(measure(args, ports))
    finally:
        server.communicate()
    publish(
        "Hedging beside a slow server",
        f"{slow_pod.SERVERS} servers of {slow_pod.WORKERS} workers, "
        f"{slow_pod.SERVICE_S * 1e3:.0f} ms each; one takes {args.slower:g} times as long. "
        f"{args.rate:g} requests/s in total from {args.clients} clients, Poisson; hedged: a second attempt "
        f"at p95. Medians of {args.rounds} rounds of {args.seconds:g} s.\n\n{body}\n\n"
        f"Targets: p99 divided by {LEAST_GAIN:g} for at most {MOST_MORE:g} % more requests, with hedges at p95. A policy "
        f"that doesn't avoid the slow server sends it {100 / slow_pod.SERVERS:g} % of the requests; to hedge all of "
        "these costs as much.",
        args.write,
        "grpcio",
    )


if __name__ == "__main__":
    main()
