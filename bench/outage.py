"""A service fails every request for a minute: how often is each request made, by those that call it?

Three services, each a process with two endpoints: a client calls front, which calls middle, which calls back, each
with a declared retry of three attempts. Back fails everything (UNAVAILABLE, at once), and after a minute nothing
any more. Requests come evenly spaced, whatever becomes of them, and each says in which second it began; the services
count their executions by that. The executions of one service per execution of its caller are the attempts of a hop.
Peers run one after the other: trimtab's channels and gRPC's own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import grpc
import grpc.aio

import trimtab.aio
from client_cpu import RETRY
from machine import publish
from one_kill import METHOD, channel, passed

HOPS = ("client to front", "front to middle", "middle to back")
ENDPOINTS = 2  # of each service
DEADLINE_S = 5.0
WARM = 20  # requests before all others
MOST, AGAIN_WITHIN_S = 1.2, 10
THROTTLING = {"retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1}}
EVERYWHERE = range(len(HOPS))
# Who calls, from which hops on again, and how in addition.
PEERS: dict[str, tuple[str, Iterable[int], dict[str, Any]]] = {
    "trimtab, each hop": ("trimtab", EVERYWHERE, {}),
    "trimtab, the client alone": ("trimtab", [0], {}),
    "native round_robin, each hop": ("native", EVERYWHERE, {}),
    "native round_robin, each hop, retryThrottling": ("native", EVERYWHERE, THROTTLING),
}


def calling(peer: str, hop: int, ports: list[int]) -> Any:
    who, hops, more = PEERS[peer]
    config = {**RETRY, **more} if hop in hops else {}
    return channel(who, grpc.aio, trimtab.aio, ports, config)


# The services


async def serve(peer: str, hop: int, ports: list[int]) -> None:
    """The service behind a hop; without ports of a next one it is the one that fails."""
    executed: Counter[int] = Counter()
    failing = [math.inf, math.inf]
    made = calling(peer, hop + 1, ports) if ports else None
    call: Any = None if made is None else made.unary_unary(METHOD)

    async def do(request: bytes, context: Any) -> bytes:
        executed[int(request)] += 1
        if call is None:
            if failing[0] <= time.monotonic() < failing[1]:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "out of order")
            return b""
        try:
            answer: bytes = await call(request, timeout=context.time_remaining())
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "")
        return answer

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(do)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("trimtab.bench.Work", {"Do": handler}),)
    )
    own = [server.add_insecure_port("127.0.0.1:0") for _ in range(ENDPOINTS)]
    await server.start()
    if made is not None:
        await made.channel_ready()
        await passed(0.5)  # until all are connected
    print(json.dumps(own), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        failing[:] = json.loads(line)
    await server.stop(1.0)
    if made is not None:
        await made.close()
    print(json.dumps(executed), flush=True)


class Service:
    def __init__(self, peer: str, hop: int, ports: list[int]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", peer, str(hop), *map(str, ports)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.ports: list[int] = json.loads(self._process.stdout.readline())

    def fail(self, begin: float, end: float) -> None:
        """Answer nothing well between these times of the monotonic clock."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([begin, end]) + "\n")
        self._process.stdin.flush()

    def end(self) -> Counter[int]:
        """Its executions, by the second in which the request began."""
        out, _ = self._process.communicate(timeout=30)
        return Counter({int(second): count for second, count in json.loads(out).items()})

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


# The client


class Seen:
    """By second: requests of the client and executions of each service; and requests that failed."""

    def __init__(self) -> None:
        self.made: list[Counter[int]] = [Counter()]
        self.failed: Counter[int] = Counter()

    def count(self, hop: int, seconds: Iterable[int]) -> int:
        """Attempts of a hop; of hop -1, the client's requests."""
        return sum(self.made[hop + 1][second] for second in seconds)

    def attempts(self, hop: int, seconds: Iterable[int], of: int | None = None) -> float:
        """Per request of the hop's caller, or of hop ``of``."""
        picked = list(seconds)
        requests = self.count(hop - 1 if of is None else of, picked)
        return self.count(hop, picked) / requests if requests else math.nan


async def ask(made: Any, back: Service, args: Any, seen: Seen) -> None:
    call = made.unary_unary(METHOD)
    await made.channel_ready()
    await passed(0.5)  # until all are connected
    for _ in range(WARM):
        seen.made[0][-1] += 1
        await call(b"-1", timeout=DEADLINE_S)

    async def one(second: int) -> None:
        seen.made[0][second] += 1
        try:
            await call(b"%d" % second, timeout=DEADLINE_S)
        except grpc.aio.AioRpcError:
            seen.failed[second] += 1

    begin = time.monotonic() + 0.1
    back.fail(begin + args.before, begin + args.before + args.seconds)
    requests = []
    for n in range(round(args.rate * (args.before + args.seconds + args.after))):
        await passed(begin + n / args.rate - time.monotonic())
        requests.append(asyncio.create_task(one(int(n / args.rate))))
    await asyncio.gather(*requests)


def measure(peer: str, args: Any) -> Seen:
    seen, services, ports = Seen(), [], []
    try:
        for hop in reversed(EVERYWHERE):
            services.append(Service(peer, hop, ports))
            ports = services[-1].ports

        async def client() -> None:
            async with calling(peer, 0, ports) as made:
                await ask(made, services[0], args, seen)

        asyncio.run(client())
        seen.made += [service.end() for service in reversed(services)]
    finally:
        for service in services:
            service.kill()
    return seen


# The page


def shown(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"


def rows(peer: str, seen: Seen, args: Any) -> list[str]:
    whole = range(args.before, args.before + args.seconds)
    parts = (range(args.before), whole[:10], whole[10:], whole)
    after = [[whole.stop + n] for n in range(args.after)]
    asked = [(name, hop, hop - 1) for hop, name in enumerate(HOPS)]
    asked.append(("all: client to back", EVERYWHERE[-1], -1))
    return [
        f"| {peer} | {name} | "
        + " | ".join(shown(seen.attempts(hop, part, of)) for part in (*parts, *after))
        + " |"
        for name, hop, of in asked
    ]


def verdict(peer: str, seen: Seen, args: Any) -> str:
    """Whether the targets are reached, in words."""

    def said(reached: bool) -> str:
        return "**reached**" if reached else "**missed**"

    outage = range(args.before, args.before + args.seconds)
    after = range(outage.stop, outage.stop + args.after)
    most = max(round(seen.attempts(hop, outage), 2) for hop in EVERYWHERE)
    overall = round(seen.attempts(EVERYWHERE[-1], outage, -1), 2)
    late = [
        n
        for n, second in enumerate(after, 1)
        if any(seen.count(hop, [second]) > seen.count(hop - 1, [second]) for hop in EVERYWHERE)
    ]
    last = late[-1] if late else 0
    failed = ", ".join(
        f"{sum(seen.failed[s] for s in part)} of {seen.count(-1, part)} {when}"
        for when, part in (
            ("before", range(args.before)),
            ("in the outage", outage),
            ("after", after),
        )
    )
    return (
        f"- {peer}: at most {most:.2f} attempts at a hop (target: {MOST:g}): {said(most <= MOST)}; {overall:.2f} from "
        f"the client to back (target: {MOST:g}): {said(overall <= MOST)}; more than 1.00 "
        f"{f'until second {last}' if last else 'in none'} of {args.after} after it (target: 1.00 within {AGAIN_WITHIN_S} s): "
        f"{said(last < AGAIN_WITHIN_S)}. Failed: {failed}."
    )


def page(found: dict[str, Seen], args: Any) -> str:
    seconds = range(2, args.after + 1)
    told = THROTTLING["retryThrottling"]
    return (
        f"Attempts per request, by the second in which the request began. {args.rate:g} requests/s for {args.before} s, "
        f"{args.seconds} s of outage and {args.after} s after it; deadline {DEADLINE_S:g} s. Each hop: all three declare "
        f"`maxAttempts` 3 on UNAVAILABLE; the client alone: the other two declare nothing. `retryThrottling`: "
        f"{told['maxTokens']} tokens, ratio {told['tokenRatio']:g}.\n\n"
        "| | hop | before | outage: first 10 s | from then on | all of it | after: 1 s | "
        + " | ".join(f"{n} s" for n in seconds)
        + f" |\n{'|---' * (6 + args.after)}|\n"
        + "\n".join(line for peer, seen in found.items() for line in rows(peer, seen, args))
        + "\n\n"
        + "\n".join(verdict(peer, seen, args) for peer, seen in found.items())
        + "\n\nTargets are compared to two decimals. trimtab's budget is of a channel: a fifth of its requests, after ten attempts that it had saved up (more, "
        "if more was in flight). Hops that all declare multiply: 1.2 to the power of three is 1.73. Where only the "
        "first caller declares, every hop has its 1.2."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--write", metavar="FILE", help="write the page to FILE as well")
    parser.add_argument("--json", action="store_true", help="print counts in place of the page")
    parser.add_argument("--peer", action="append", choices=PEERS)
    parser.add_argument("--rate", type=float, default=50.0, help="requests/s")
    parser.add_argument("--before", type=int, default=5, help="seconds before the outage")
    parser.add_argument("--seconds", type=int, default=60, help="of the outage")
    parser.add_argument("--after", type=int, default=10, help="seconds after it")
    args = parser.parse_args()
    if args.serve:
        peer, hop, *ports = args.serve
        asyncio.run(serve(peer, int(hop), [int(port) for port in ports]))
        return
    found = {}
    for peer in args.peer or PEERS:
        found[peer] = measure(peer, args)
        print(verdict(peer, found[peer], args), file=sys.stderr, flush=True)
    if args.json:
        for seen in found.values():
            print(json.dumps({"made": seen.made, "failed": seen.failed}))
        return
    publish("A full outage, with retries", page(found, args), args.write, "grpcio")


if __name__ == "__main__":
    main()
