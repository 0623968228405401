"""Ten pods in processes, the last of which can be made silent, and speak again.

Nine servers in one process, the tenth in its own. ``frozen``: SIGSTOP. ``swallowed``: a proxy before it takes
everything, connections too, and passes nothing on, neither data nor ends of connections. ``dropped``: the kernel drops
the packets of its port both ways, so that no connection can be made either (needs iptables, and the right to use it).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import grpc
import grpc.aio
from aiohttp import web

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from harness.lost_packets import lost

METHOD = "/trimtab.bench.Work/Do"
PODS = 10
FROZEN, SWALLOWED, DROPPED = WAYS = ("frozen", "swallowed", "dropped")


async def passed(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    # A hedge that lost is cancelled, even as its time comes.
    timer = loop.call_later(seconds, lambda: done.done() or done.set_result(None))
    try:
        await done
    finally:
        timer.cancel()


# The servers


async def serve(count: int, first: int, service_s: float) -> None:
    servers, ports = [], []
    for number in range(first, first + count):

        async def do(_request: bytes, _context: Any, name: bytes = b"%d" % number) -> bytes:
            await passed(service_s)
            return name

        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(do)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("trimtab.bench.Work", {"Do": handler}),)
        )
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        servers.append(server)
    print(json.dumps(ports), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for server in servers:
        await server.stop(None)


async def serve_http(count: int, first: int, service_s: float) -> None:
    runners, ports = [], []
    for number in range(first, first + count):

        async def do(_request: web.Request, name: bytes = b"%d" % number) -> web.Response:
            await passed(service_s)
            return web.Response(body=name)

        app = web.Application()
        app.router.add_get("/", do)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        ports.append(runner.addresses[0][1])
        runners.append(runner)
    print(json.dumps(ports), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for runner in runners:
        await runner.cleanup()


async def swallow(port: int) -> None:
    """A proxy in front of a server; each line of input makes it silent, or open again."""
    opened = asyncio.Event()
    opened.set()

    async def copy(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            await opened.wait()
            to.write(data)
        await opened.wait()
        to.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await opened.wait()
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(asyncio.CancelledError):  # the end, which needs no traceback
            await asyncio.gather(
                copy(reader, inner_writer), copy(inner_reader, writer), return_exceptions=True
            )

    proxy = await asyncio.start_server(accept, "127.0.0.1", 0)
    print(json.dumps([proxy.sockets[0].getsockname()[1]]), flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        opened.clear() if opened.is_set() else opened.set()


class Child:
    def __init__(self, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @cached_property
    def ports(self) -> list[int]:
        assert self._process.stdout is not None
        found: list[int] = json.loads(self._process.stdout.readline())
        return found

    def tell(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self) -> None:
        self.send(signal.SIGCONT)
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


class Pods:
    """All ten, as a context manager.

    Args:
        way: how the last one falls silent.
        http: GETs over HTTP/1.1; else gRPC.
        service_ms: what a request takes.
    """

    def __init__(self, way: str, *, http: bool, service_ms: float) -> None:
        self._way = way
        self._arguments = ("http" if http else "grpc", service_ms)
        self._open = contextlib.ExitStack()
        self._silence = contextlib.ExitStack()
        self._hands = ThreadPoolExecutor(1)  # iptables takes a while, and load goes on meanwhile
        self._acts: list[Future[None]] = []

    def __enter__(self) -> Self:
        kind, service_ms = self._arguments
        with self._open as opening:
            many = self._begun(Child(kind, PODS - 1, 0, service_ms))
            self._last = self._begun(Child(kind, 1, PODS - 1, service_ms))
            port = self._last.ports[0]
            if self._way == SWALLOWED:
                self._proxy = self._begun(Child("swallow", port))
                port = self._proxy.ports[0]
            self.endpoints = [f"127.0.0.1:{n}" for n in (*many.ports, port)]
            self._port = port
            opening.callback(self._silence.close)
            self._open = opening.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        with self._open:
            self._hands.shutdown()
            for act in self._acts:
                act.result()

    def _begun(self, child: Child) -> Child:
        self._open.callback(child.end)
        return child

    def fall_silent(self) -> None:
        self._acts.append(self._hands.submit(self._fall_silent))

    def speak(self) -> None:
        self._acts.append(self._hands.submit(self._silence.close))

    def _fall_silent(self) -> None:
        if self._way == FROZEN:
            self._last.send(signal.SIGSTOP)
            self._silence.callback(self._last.send, signal.SIGCONT)
        elif self._way == SWALLOWED:
            self._proxy.tell()
            self._silence.callback(self._proxy.tell)
        else:
            self._silence.enter_context(lost("both ways", self._port))


if __name__ == "__main__":
    what, *numbers = sys.argv[1:]
    if what == "swallow":
        asyncio.run(swallow(int(numbers[0])))
    else:
        serving = serve_http if what == "http" else serve
        asyncio.run(serving(int(numbers[0]), int(numbers[1]), float(numbers[2]) / 1e3))
