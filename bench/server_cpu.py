"""What load reports cost a server's processor, per unary call.

Server processes with and without the interceptor, on one core; one client on another sends blocks
of calls to each in turn, in shuffled order. A server's processor time (all its threads) for a
block is divided by that of the plain server in the same round. A second plain server is the
control: what its ratio is off 1 is noise.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import grpc
import grpc.aio

from machine import publish
from trimtab.server import LoadReports, ServerLoad
from trimtab.server.aio import LoadReports as AioLoadReports

METHOD = "/trimtab.bench.Echo/Say"
PAYLOAD = b"x" * 100
BLOCK = 500
AT_ONCE = 20
PLAIN, CONTROL = "plain", "plain again (control)"
BASIC, FULL = "in flight and latency", "and utilisation, rates, queue"
CASES = (PLAIN, CONTROL, BASIC, FULL)
EMPTY = "an interceptor that does nothing"
TARGET = 1.02


class Nothing(grpc.ServerInterceptor):
    def intercept_service(self, continuation: Any, details: Any) -> Any:
        return continuation(details)


class AioNothing(grpc.aio.ServerInterceptor):
    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        return await continuation(details)


def interceptors(case: str, nothing: type, reports: type) -> list[Any]:
    if case == EMPTY:
        return [nothing()]
    if case == BASIC:
        return [reports()]
    if case == FULL:
        load = ServerLoad(utilization=lambda: 0.5, queue=lambda: 3)
        return [reports(load)]
    return []


def add_service(server: Any, say: Any) -> int:
    handler = grpc.unary_unary_rpc_method_handler(say)
    service = grpc.method_handlers_generic_handler("trimtab.bench.Echo", {"Say": handler})
    server.add_generic_rpc_handlers((service,))
    return int(server.add_insecure_port("127.0.0.1:0"))


async def serve_on_loop(case: str) -> None:
    async def say(request: bytes, _context: object) -> bytes:
        await asyncio.sleep(0)  # others are in flight meanwhile
        return request

    server = grpc.aio.server(interceptors=interceptors(case, AioNothing, AioLoadReports))
    print(add_service(server, say), flush=True)
    await server.start()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


def serve_in_threads(case: str) -> None:
    server = grpc.server(
        ThreadPoolExecutor(8), interceptors=interceptors(case, Nothing, LoadReports)
    )
    print(add_service(server, lambda request, _context: request), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(None).wait()


def used(pid: int) -> float:
    """Processor time of a process, all threads that live [µs]."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e3


async def measure(kind: str, rounds: int) -> dict[str, list[float]]:
    cases = (*CASES[:2], EMPTY, *CASES[2:])
    processes, stubs = {}, {}
    found: dict[str, list[float]] = {case: [] for case in cases}
    try:
        for case in cases:
            command = [sys.executable, __file__, "--serve", kind, "--case", case]
            # The loop has nothing else to do yet.
            process = subprocess.Popen(  # noqa: ASYNC220 - see above
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            processes[case] = process
            assert process.stdout is not None
            port = int(process.stdout.readline())
            stubs[case] = grpc.aio.insecure_channel(f"127.0.0.1:{port}").unary_unary(METHOD)
        order, shuffle = list(cases), Random(3)
        for turn in range(rounds + 2):
            shuffle.shuffle(order)
            for case in order:
                begin = used(processes[case].pid)
                for _ in range(BLOCK // AT_ONCE):
                    await asyncio.gather(*(stubs[case](PAYLOAD) for _ in range(AT_ONCE)))
                if turn >= 2:
                    found[case].append((used(processes[case].pid) - begin) / BLOCK)
    finally:
        for process in processes.values():
            process.communicate()
    return found


def table(found: dict[str, list[float]]) -> tuple[str, float]:
    rows = [
        "| server | µs per call, median | ratio to plain, median | p25 | p75 |",
        "|---|---|---|---|---|",
    ]
    reached = 0.0
    for case, times in found.items():
        ratios = [a / b for a, b in zip(times, found[PLAIN], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        rows.append(
            f"| {case} | {statistics.median(times):.1f} | {middle:.3f} | {low:.3f} | {high:.3f} |"
        )
        if case == BASIC:
            reached = middle
    return "\n".join(rows), reached


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", metavar="FILE", help="write the page to FILE as well")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if options.serve:
        os.sched_setaffinity(0, {cores[-1]})
        if options.serve == "asyncio":
            asyncio.run(serve_on_loop(options.case))
        else:
            serve_in_threads(options.case)
        return
    os.sched_setaffinity(0, {cores[0]})
    parts = []
    for kind in ("asyncio", "threads"):
        rows, ratio = table(asyncio.run(measure(kind, options.rounds)))
        word = "reached" if ratio <= TARGET else "missed"
        parts.append(
            f"## {kind}, {AT_ONCE} calls at once, {options.rounds} rounds of {BLOCK}\n\n{rows}\n\n"
            f"Target: at most {TARGET} of the plain server; {word} ({ratio:.3f})."
        )
    publish(
        "What load reports cost a server",
        f"Processor time of the server per call of {len(PAYLOAD)} bytes, on one core; the client "
        "on another. Ratios are within a round. The handlers do nothing, so a real server's ratio "
        "is nearer to 1.\n\n" + "\n\n".join(parts),
        options.write,
        "grpcio",
    )


if __name__ == "__main__":
    main()
