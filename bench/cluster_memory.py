"""What a cluster of a thousand endpoints costs a client in memory.

One server process listens on all loopback addresses, and each endpoint is one of them: so many real connections.
A client process is measured with one endpoint and with all of them connected, each used at least once; the
difference of the resident memory is the cluster's. Beside it gRPC's own round_robin over the same addresses.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

import trimtab
import trimtab.aio
from machine import publish

METHOD = "/trimtab.bench.Echo/Say"
ROUND_ROBIN = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})
CLIENTS = ("trimtab, asyncio", "trimtab, threads", "native round_robin, asyncio")
TARGET_MB = 60
CONNECTED_WITHIN_S = 60.0


async def serve() -> None:
    async def say(request: bytes, _context: object) -> bytes:
        return request

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(say)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("trimtab.bench.Echo", {"Say": handler}),)
    )
    print(server.add_insecure_port("0.0.0.0:0"), flush=True)
    await server.start()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


def resident_mb() -> float:
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


async def passed(seconds: float) -> None:
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(seconds, done.set_result, None)
    await done


async def connected(channel: Any, endpoints: int) -> None:
    """All endpoints are, where the channel says so; a native one gets a while."""
    balancer = getattr(channel, "trimtab", None)
    async with asyncio.timeout(CONNECTED_WITHIN_S):
        if balancer is None:
            await passed(10.0)
        while (
            balancer is not None and sum(n.connected for n in balancer.nodes.values()) < endpoints
        ):
            await passed(0.05)


async def measure(client: str, endpoints: int, port: int) -> float:
    """The resident memory [MB] with so many endpoints, all of them used."""
    targets = [f"127.0.{1 + n // 250}.{1 + n % 250}:{port}" for n in range(endpoints)]
    channel: Any
    if client == "trimtab, threads":
        channel = trimtab.insecure_channel("bench", endpoints=targets, policy="round_robin")
    elif client == "trimtab, asyncio":
        channel = trimtab.aio.insecure_channel("bench", endpoints=targets, policy="round_robin")
    else:
        # Its own authority would be all the addresses, longer than a header may be.
        options = [("grpc.service_config", ROUND_ROBIN), ("grpc.default_authority", "bench")]
        channel = grpc.aio.insecure_channel("ipv4:" + ",".join(targets), options)
    stub = channel.unary_unary(METHOD)
    await connected(channel, endpoints)
    for _ in range(2 * endpoints):
        answer = stub(b"x", timeout=10)
        if not isinstance(answer, bytes):
            await answer
    found = resident_mb()
    closing = channel.close()
    if closing is not None:
        await closing
    return found


def in_a_process_of_its_own(client: str, endpoints: int, port: int) -> float:
    done = subprocess.run(
        [sys.executable, __file__, "--measure", client, str(endpoints), str(port)],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--endpoints", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--write", metavar="FILE", help="write the page to FILE as well")
    given = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if given.serve:
        asyncio.run(serve())
        return
    if given.measure:
        client, endpoints, port = given.measure
        print(asyncio.run(measure(client, int(endpoints), int(port))))
        return
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    rows = []
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        for client in CLIENTS:
            more = []
            for _ in range(given.runs):
                one = in_a_process_of_its_own(client, 1, port)
                more.append(in_a_process_of_its_own(client, given.endpoints, port) - one)
            cells = ", ".join(f"{mb:.1f}" for mb in more)
            rows.append(f"| {client} | {cells} | {1024 * max(more) / given.endpoints:.0f} |")
            print(rows[-1], file=sys.stderr, flush=True)
    finally:
        server.communicate()
    publish(
        "A large cluster in a client's memory",
        f"{__doc__.partition(chr(10))[2].strip()}\n\n"
        f"| client | MB more with {given.endpoints:,} endpoints than with one, by run | KB per endpoint, most |\n"
        "|---|---|---|\n" + "\n".join(rows) + f"\n\nTarget: at most {TARGET_MB} MB.",
        given.write,
        "grpcio",
    )


if __name__ == "__main__":
    main()
