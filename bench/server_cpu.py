"""What load reports cost a server's processor, per unary call.

One process has a server without the interceptor and some with it, each at a port of its own, on one
core: two processes with the same code differ by up to a tenth. A client on another core sends blocks
of calls to each server in turn, in shuffled order. The process's processor time (all its threads) for
a block is divided by that of the plain server's in the same round. A second plain server is the
control: what its ratio is off 1 is noise.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
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
from trimtab.load_codec import BINARY_HEADER, HEADER
from trimtab.server import LoadReports, ServerLoad
from trimtab.server.aio import LoadReports as AioLoadReports
from trimtab.server.handlers import WrappedHandlers

METHOD = "/trimtab.bench.Echo/Say"
PAYLOAD = b"x" * 100
BLOCK = 500
AT_ONCE = 20
PLAIN, CONTROL = "plain", "plain again (control)"
BASIC, FULL = "in flight and latency", "and utilisation, rates, queue"
EMPTY = "an interceptor that does nothing"
CONSTANT = "one that sends constant reports"
CASES = (PLAIN, CONTROL, EMPTY, CONSTANT, BASIC, FULL)
TARGET = 1.02


class Nothing(grpc.ServerInterceptor):
    def intercept_service(self, continuation: Any, details: Any) -> Any:
        return continuation(details)


class AioNothing(grpc.aio.ServerInterceptor):
    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        return await continuation(details)


CONSTANTS = (
    (HEADER, "TEXT named_metrics.in_flight=12,named_metrics.latency=0.0021"),
    (BINARY_HEADER, bytes(56)),
)


def constant(behavior: Any, _handler: Any) -> Any:
    """The least that a server can do to send reports."""

    def in_thread(request: Any, context: Any) -> Any:
        response = behavior(request, context)
        context.set_trailing_metadata(CONSTANTS)
        return response

    async def on_loop(request: Any, context: Any) -> Any:
        response = await behavior(request, context)
        context.set_trailing_metadata(CONSTANTS)
        return response

    return on_loop if inspect.iscoroutinefunction(behavior) else in_thread


class Constant(grpc.ServerInterceptor):
    def __init__(self) -> None:
        self._handlers = WrappedHandlers(constant, None)

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        return self._handlers.wrapped(details.method, continuation(details))


class AioConstant(grpc.aio.ServerInterceptor):
    def __init__(self) -> None:
        self._handlers = WrappedHandlers(constant, None)

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        return self._handlers.wrapped(details.method, await continuation(details))


def interceptors(case: str, nothing: type, reports: type) -> list[Any]:
    if case == EMPTY:
        return [nothing()]
    if case == CONSTANT:
        return [AioConstant() if nothing is AioNothing else Constant()]
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


async def serve_on_loop() -> None:
    async def say(request: bytes, _context: object) -> bytes:
        await asyncio.sleep(0)  # others are in flight meanwhile
        return request

    servers = [
        grpc.aio.server(interceptors=interceptors(case, AioNothing, AioLoadReports))
        for case in CASES
    ]
    print(*(add_service(server, say) for server in servers), flush=True)
    for server in servers:
        await server.start()
    await asyncio.to_thread(sys.stdin.read)
    for server in servers:
        await server.stop(None)


def serve_in_threads() -> None:
    servers = [
        grpc.server(ThreadPoolExecutor(8), interceptors=interceptors(case, Nothing, LoadReports))
        for case in CASES
    ]
    print(*(add_service(s, lambda request, _context: request) for s in servers), flush=True)
    for server in servers:
        server.start()
    sys.stdin.read()
    for server in servers:
        server.stop(None).wait()


def used(pid: int) -> float:
    """Processor time of a process, all threads that live [µs]."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e3


async def measure(kind: str, rounds: int) -> tuple[dict[str, list[float]], float]:
    """Server time per call by case and round, and the client's median [µs]."""
    found: dict[str, list[float]] = {case: [] for case in CASES}
    own: list[float] = []
    command = [sys.executable, __file__, "--serve", kind]
    # The loop has nothing else to do yet.
    process = subprocess.Popen(  # noqa: ASYNC220 - see above
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        ports = process.stdout.readline().split()
        stubs = {
            case: grpc.aio.insecure_channel(f"127.0.0.1:{int(port)}").unary_unary(METHOD)
            for case, port in zip(CASES, ports, strict=True)
        }
        order, shuffle = list(CASES), Random(3)
        for turn in range(rounds + 2):
            shuffle.shuffle(order)
            for case in order:
                begin, own_begin = used(process.pid), used(os.getpid())
                for _ in range(BLOCK // AT_ONCE):
                    await asyncio.gather(*(stubs[case](PAYLOAD) for _ in range(AT_ONCE)))
                if turn >= 2:
                    found[case].append((used(process.pid) - begin) / BLOCK)
                    own.append((used(os.getpid()) - own_begin) / BLOCK)
    finally:
        process.communicate()
    return found, statistics.median(own)


def table(found: dict[str, list[float]], client: float) -> tuple[str, float]:
    rows = [
        "| server | µs per call, median | ratio to plain, median | p25 | p75 | more µs, median |",
        "|---|---|---|---|---|---|",
    ]
    reached = added = least = 0.0
    for case, times in found.items():
        ratios = [a / b for a, b in zip(times, found[PLAIN], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        more = statistics.median(a - b for a, b in zip(times, found[PLAIN], strict=True))
        rows.append(
            f"| {case} | {statistics.median(times):.1f} | {middle:.3f} | {low:.3f} | {high:.3f} "
            f"| {more:.1f} |"
        )
        if case == BASIC:
            reached, added = middle, more
        if case == CONSTANT:
            least = more
    plain = statistics.median(found[PLAIN])
    parts = (
        f"{100 * added / plain:.1f} % of a call that does nothing ({plain:.0f} µs), "
        f"{100 * added / (plain + client):.1f} % of one with its client's part ({client:.0f} µs "
        f"more), and {100 * added / (plain + 1000):.1f} % of one that works for 1 ms"
    )
    share = f"{least:.1f} are gRPC's (any interceptor, any trailing metadata)"
    rows += ["", f"The {added:.1f} µs, of which {share}, are {parts}."]
    return "\n".join(rows), reached


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", metavar="FILE", help="write the page to FILE as well")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if options.serve:
        os.sched_setaffinity(0, {cores[-1]})
        if options.serve == "asyncio":
            asyncio.run(serve_on_loop())
        else:
            serve_in_threads()
        return
    os.sched_setaffinity(0, {cores[0]})
    parts = []
    for kind in ("asyncio", "threads"):
        rows, ratio = table(*asyncio.run(measure(kind, options.rounds)))
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
