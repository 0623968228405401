"""A server of its own process: warms up, serves, drains on SIGTERM. Prints its port.

Each request takes a while, so that some are in flight whenever the signal comes.
"""

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import grpc.aio

from trimtab.server import (
    LoadReports,
    Readiness,
    Warmup,
    aio,
    serve_until_signal,
    serve_until_signal_blocking,
)

TAKES_S = 0.05
PROPAGATION_S = 3.0  # a busy machine hears late


async def on_loop():
    async def say(request, _context):
        await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=TAKES_S)
        return request

    readiness, server = Readiness(), grpc.aio.server(interceptors=[aio.LoadReports()])
    prepare(server, say, readiness)
    await server.start()
    await Warmup([lambda: None]).run(readiness)
    await serve_until_signal(server, readiness, propagation_s=PROPAGATION_S, grace_s=30)


def in_threads():
    def say(request, _context):
        threading.Event().wait(TAKES_S)
        return request

    readiness = Readiness()
    server = grpc.server(ThreadPoolExecutor(32), interceptors=[LoadReports()])
    prepare(server, say, readiness)
    server.start()
    Warmup([lambda: None]).run_blocking(readiness)
    serve_until_signal_blocking(server, readiness, propagation_s=PROPAGATION_S, grace_s=30)


def prepare(server, say, readiness):
    handler = grpc.unary_unary_rpc_method_handler(say)
    service = grpc.method_handlers_generic_handler("Test", {"Say": handler})
    server.add_generic_rpc_handlers((service,))
    readiness.add_to(server)
    sys.stdout.write(f"{server.add_insecure_port('127.0.0.1:0')}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1] == "loop":
        asyncio.run(on_loop())
    else:
        in_threads()
