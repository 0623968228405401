"""What a unary call costs the client's processor, beside gRPC's own channels in the same run.

One server process with eight ports on one core, this process on another. Blocks of calls through
each channel alternate in shuffled order; each block's processor time (all threads of this process)
is divided by that of the peer's block in the same round. The second native channel of each kind is
the control: what its ratio is off 1 is noise.
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
from itertools import count
from random import Random
from typing import Any

import grpc
import grpc.aio

import trimtab
import trimtab.aio
from machine import publish
from trimtab.load_codec import HEADER, encode
from trimtab.load_report import LoadReport

METHOD = "/trimtab.bench.Echo/Say"
PAYLOAD = b"x" * 100
PORTS = 8
BATCH = 50
ROUND_ROBIN = (
    "grpc.service_config",
    json.dumps({"loadBalancingConfig": [{"round_robin": {}}]}),
)
RETRY = {
    "methodConfig": [
        {
            "name": [{}],
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
OWN = ("grpc.use_local_subchannel_pool", 1)

PICK_FIRST, PICK_FIRST_2 = "native pick_first, 1 endpoint", "the same again (control)"
RR, RR_2 = "native round_robin, 8 endpoints", "round_robin again (control)"
OURS_1, OURS_8 = "trimtab p2c, 1 endpoint", "trimtab p2c, 8 endpoints"
RR_TOLD = "native round_robin, 8 endpoints that report load"
OURS_TOLD = "trimtab token, 8 endpoints that report load"
RR_AGAIN = "native round_robin, 8 endpoints, retryPolicy"
OURS_AGAIN = "trimtab p2c, 8 endpoints, the same retryPolicy"
CASES = (
    PICK_FIRST,
    PICK_FIRST_2,
    RR,
    RR_2,
    OURS_1,
    OURS_8,
    RR_TOLD,
    OURS_TOLD,
    RR_AGAIN,
    OURS_AGAIN,
)
PEERS = {
    PICK_FIRST_2: PICK_FIRST,
    OURS_1: PICK_FIRST,
    RR_2: RR,
    OURS_8: RR,
    RR: PICK_FIRST,
    RR_TOLD: RR,
    OURS_TOLD: RR_TOLD,
    RR_AGAIN: RR,
    OURS_AGAIN: OURS_8,
}
TARGETS = {OURS_8: 1.04, OURS_TOLD: 1.08}


async def serve() -> None:
    async def say(request: bytes, _context: object) -> bytes:
        return request

    said = count()

    async def say_and_report(request: bytes, context: Any) -> bytes:
        n = next(said)
        report = LoadReport(in_flight=n % 7, latency=0.001 * (1 + n % 9))
        context.set_trailing_metadata(((HEADER, encode(report)),))
        return request

    servers, ports = [], []
    for handle in (say, say_and_report):
        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(handle)
        service = grpc.method_handlers_generic_handler("trimtab.bench.Echo", {"Say": handler})
        server.add_generic_rpc_handlers((service,))
        ports += [server.add_insecure_port("127.0.0.1:0") for _ in range(PORTS)]
        await server.start()
        servers.append(server)
    print(json.dumps(ports), flush=True)
    await asyncio.to_thread(sys.stdin.read)  # until the client goes
    for server in servers:
        await server.stop(None)


def channels(module: Any, ours: Any, ports: list[int]) -> dict[str, Any]:
    every = [f"127.0.0.1:{port}" for port in ports]
    targets, telling = every[:PORTS], every[PORTS:]
    one, all_of_them = f"ipv4:{targets[0]}", "ipv4:" + ",".join(targets)
    told = "ipv4:" + ",".join(telling)
    return {
        PICK_FIRST: module.insecure_channel(one, options=[OWN]),
        PICK_FIRST_2: module.insecure_channel(one, options=[OWN]),
        RR: module.insecure_channel(all_of_them, options=[OWN, ROUND_ROBIN]),
        RR_2: module.insecure_channel(all_of_them, options=[OWN, ROUND_ROBIN]),
        OURS_1: ours.insecure_channel("bench", endpoints=targets[:1], policy="p2c"),
        OURS_8: ours.insecure_channel("bench", endpoints=targets, policy="p2c"),
        RR_TOLD: module.insecure_channel(told, options=[OWN, ROUND_ROBIN]),
        OURS_TOLD: ours.insecure_channel("bench", endpoints=telling, policy="token"),
        RR_AGAIN: module.insecure_channel(
            all_of_them,
            options=[
                OWN,
                (
                    "grpc.service_config",
                    json.dumps({"loadBalancingConfig": [{"round_robin": {}}], **RETRY}),
                ),
            ],
        ),
        OURS_AGAIN: ours.insecure_channel(
            "bench",
            [("grpc.service_config", json.dumps(RETRY))],
            endpoints=targets,
            policy="p2c",
        ),
    }


Block = Callable[[Any], Awaitable[None]]


async def measure(
    stubs: dict[str, Any], block: Block, rounds: int, calls: int
) -> dict[str, list[float]]:
    """Microseconds of processor time per call, by case, one figure per round."""
    found: dict[str, list[float]] = {case: [] for case in CASES}
    order, shuffle = list(CASES), Random(5)
    for case in CASES:
        for _ in range(10):
            await block(stubs[case])
    gc.collect()
    gc.freeze()
    for _ in range(rounds):
        shuffle.shuffle(order)
        for case in order:
            begin = time.process_time_ns()
            await block(stubs[case])
            found[case].append((time.process_time_ns() - begin) / 1e3 / calls)
    gc.unfreeze()
    return found


async def measure_aio(ports: list[int], rounds: int, *, at_once: bool) -> dict[str, list[float]]:
    made = channels(grpc.aio, trimtab.aio, ports)
    for channel in made.values():
        await channel.channel_ready()
    for case in (OURS_8, OURS_TOLD, OURS_AGAIN):
        await connected(made[case])

    async def together(stub: Any) -> None:
        await asyncio.gather(*(stub(PAYLOAD) for _ in range(BATCH)))

    async def in_turn(stub: Any) -> None:
        for _ in range(BATCH):
            await stub(PAYLOAD)

    block = together if at_once else in_turn
    stubs = {case: channel.unary_unary(METHOD) for case, channel in made.items()}
    found = await measure(stubs, block, rounds, BATCH)
    for channel in made.values():
        await channel.close()
    return found


async def measure_sync(ports: list[int], rounds: int) -> dict[str, list[float]]:
    made = channels(grpc, trimtab, ports)
    for channel in made.values():
        grpc.channel_ready_future(channel).result(10)
    for case in (OURS_8, OURS_TOLD, OURS_AGAIN):
        await connected(made[case])

    async def block(stub: Any) -> None:
        for _ in range(BATCH):
            stub(PAYLOAD)

    stubs = {case: channel.unary_unary(METHOD) for case, channel in made.items()}
    found = await measure(stubs, block, rounds, BATCH)
    for channel in made.values():
        channel.close()
    return found


async def connected(channel: Any) -> None:
    waiting = asyncio.Event()
    while not all(node.connected for node in channel.trimtab.nodes.values()):
        asyncio.get_running_loop().call_later(0.01, waiting.set)
        await waiting.wait()
        waiting.clear()


def table(found: dict[str, list[float]]) -> tuple[str, dict[str, float]]:
    """The rows, and the median ratios that the targets speak of."""
    rows = [
        "| channel | µs per call, median | compared with | ratio, median | ratio, p25 |",
        "|---|---|---|---|---|",
    ]
    ours: dict[str, float] = {}
    for case in CASES:
        cells = [case, f"{statistics.median(found[case]):.1f}"]
        peer = PEERS.get(case)
        if peer is None:
            rows.append(f"| {' | '.join(cells)} | | | |")
            continue
        ratios = [a / b for a, b in zip(found[case], found[peer], strict=True)]
        quarter, median, _ = statistics.quantiles(ratios, n=4)
        if case in TARGETS:
            ours[case] = median
        cells += [peer, f"{median:.3f}", f"{quarter:.3f}"]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows), ours


def verdict(ratios: dict[str, float]) -> str:
    return " ".join(
        f"Target for {case}: at most {most} of {PEERS[case]}; "
        f"{'reached' if ratios[case] <= most else 'missed'} ({ratios[case]:.3f})."
        for case, most in TARGETS.items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", metavar="FILE", help="write the page to FILE as well")
    parser.add_argument("--quick", action="store_true", help="few rounds, to see that it runs")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if options.serve:
        os.sched_setaffinity(0, {cores[-1]})
        asyncio.run(serve())
        return

    rounds_aio, rounds_sync = (20, 10) if options.quick else (600, 200)
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        ports = json.loads(server.stdout.readline())
        os.sched_setaffinity(0, {cores[0]})
        aio, ratios = table(asyncio.run(measure_aio(ports, rounds_aio, at_once=True)))
        single, alone = table(asyncio.run(measure_aio(ports, rounds_sync, at_once=False)))
        sync, blocking = table(asyncio.run(measure_sync(ports, rounds_sync)))
    finally:
        server.communicate()
    publish(
        "A unary call's processor time",
        f"Processor time of the whole client process per call of {len(PAYLOAD)} bytes, on one core; "
        f"the server on another. Ratios are within a round.\n\n"
        f"## asyncio, {BATCH} calls at once, {rounds_aio} rounds\n\n{aio}\n\n"
        f"{verdict(ratios)}\n\n"
        f"## asyncio, one call after the other, {rounds_sync} rounds of {BATCH}\n\n{single}\n\n"
        f"{verdict(alone)}\n\n"
        f"## threads, one call after the other, {rounds_sync} rounds of {BATCH}\n\n{sync}\n\n"
        f"{verdict(blocking)}",
        options.write,
        "grpcio",
    )


if __name__ == "__main__":
    main()
