"""One gRPC server in a process of its own: ``python -m harness.reporting_process KIND MS REPORTS``.

KIND is ``threads`` or ``loop``; each request takes MS milliseconds; REPORTS is ``reports`` or
``plain``. Says its port, then, at each line, what it has counted: requests, and probes whether it
answers them or not.
"""

import asyncio
import sys
import threading
from concurrent import futures

import grpc
import grpc.aio

import trimtab.server
import trimtab.server.aio
from harness.conversation import read_commands, tell
from harness.echo_process import METHOD, SERVICE
from trimtab.load_codec import PROBE

THREADS = 16


class Counts:
    """By method; an interceptor of either kind of server counts here."""

    def __init__(self):
        self.probes = 0
        self.requests = 0
        self._lock = threading.Lock()

    def count(self, method):
        with self._lock:
            self.probes += method == PROBE
            self.requests += method == f"/{SERVICE}/{METHOD}"


class OnLoop(grpc.aio.ServerInterceptor):
    def __init__(self, counts):
        self._counts = counts

    async def intercept_service(self, continuation, details):
        self._counts.count(details.method)
        return await continuation(details)


class InThreads(grpc.ServerInterceptor):
    def __init__(self, counts):
        self._counts = counts

    def intercept_service(self, continuation, details):
        self._counts.count(details.method)
        return continuation(details)


def handler(behavior):
    methods = {METHOD: grpc.unary_unary_rpc_method_handler(behavior)}
    return (grpc.method_handlers_generic_handler(SERVICE, methods),)


async def serve(kind, seconds, reports):
    counts = Counts()
    if kind == "loop":

        async def work(_request, _context):
            done = asyncio.Event()
            asyncio.get_running_loop().call_later(seconds, done.set)
            await done.wait()
            return b""

        more = [trimtab.server.aio.LoadReports()] if reports else []
        server = grpc.aio.server(interceptors=[OnLoop(counts), *more])
    else:

        def work(_request, _context):
            threading.Event().wait(seconds)
            return b""

        more = [trimtab.server.LoadReports()] if reports else []
        pool = futures.ThreadPoolExecutor(THREADS)
        server = grpc.server(pool, interceptors=[InThreads(counts), *more])
    server.add_generic_rpc_handlers(handler(work))
    port = server.add_insecure_port("127.0.0.1:0")
    started = server.start()
    if kind == "loop":
        await started
    tell({"port": port})
    async for _ in read_commands():
        tell({"requests": counts.requests, "probes": counts.probes})
    stopped = server.stop(0)
    if kind == "loop":
        await stopped


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]) / 1e3, sys.argv[3] == "reports"))
