"""A process starts while the control plane can't be had: when has its first request an answer?

Each start is a process of its own, with the last good list that another one kept. The control plane ``serves``,
``refuses`` connections, is ``silent`` (takes them and says nothing), or is ``black-holed`` (no connection to it
comes about). The time runs from the making of the channel or client to the first answer; beside it that from the
start of the process, most of which are imports. gRPC's own xDS client keeps no list: it is given five seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any

METHOD = "/trimtab.bench.Echo/Say"
CALLS, PAGES = "orders.shop:80", "pages.shop:80"
CLIENTS = ("trimtab, asyncio", "trimtab, threads", "trimtab, httpx", "native xds, threads")
PLANES = ("serves", "refuses", "is silent", "is black-holed")
NATIVE_S = 5.0
LONGEST_S = 60.0
TARGET_S = 1.0


def clock() -> float:
    """The machine's, the same in all processes [s]."""
    return time.monotonic()


def bootstrap_of(address: str) -> dict[str, Any]:
    return {"xds_servers": [{"server_uri": address, "channel_creds": [{"type": "insecure"}]}]}


def first_answer(client: str, address: str, directory: str) -> tuple[float, float, str]:
    """When the channel was made and when its first request ended [s]; the error if it had one."""
    import grpc  # noqa: PLC0415 - imports belong to the process's start, and not to the channel's

    import trimtab  # noqa: PLC0415
    import trimtab.aio  # noqa: PLC0415

    ours: dict[str, Any] = {
        "bootstrap": bootstrap_of(address),
        "fallback": [trimtab.LastGood(directory)],
    }
    if client == "trimtab, asyncio":

        async def ask() -> tuple[float, float, str]:
            begin = clock()
            async with trimtab.aio.insecure_channel(f"xds:///{CALLS}", **ours) as channel:
                await channel.unary_unary(METHOD)(b"x", timeout=LONGEST_S)
                return begin, clock(), ""

        return asyncio.run(ask())
    if client == "trimtab, httpx":
        import httpx  # noqa: PLC0415

        import trimtab.httpx  # noqa: PLC0415

        begin = clock()
        transport = trimtab.httpx.Transport(["*.shop"], **{**ours, "fallback": ours["fallback"][0]})
        with httpx.Client(transport=transport, timeout=LONGEST_S) as pages:
            pages.get(f"http://{PAGES}/").raise_for_status()
            return begin, clock(), ""
    begin = clock()
    if client == "trimtab, threads":
        with trimtab.insecure_channel(f"xds:///{CALLS}", **ours) as channel:
            channel.unary_unary(METHOD)(b"x", timeout=LONGEST_S)
            return begin, clock(), ""
    with grpc.insecure_channel(f"xds:///{CALLS}") as native:
        try:
            native.unary_unary(METHOD)(b"x", timeout=NATIVE_S)
        except grpc.RpcError as error:
            return begin, clock(), error.code().name
        return begin, clock(), ""


def start(client: str, address: str, directory: str) -> tuple[float, float, str]:
    """Seconds from the channel's making, and from the process's start, to the answer; the error if there was one."""
    begin = clock()
    done = subprocess.run(
        [sys.executable, __file__, "--start", client, address, directory],
        env={**os.environ, "GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps({**bootstrap_of(address), "node": {"id": "n"}})},
        check=True,
        capture_output=True,
        text=True,
    )  # fmt: skip
    made, ended, error = json.loads(done.stdout)
    return ended - made, ended - begin, error


class Page(BaseHTTPRequestHandler):
    """Answers every GET."""

    def do_GET(self) -> None:
        """See ``http.server``."""
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_words: Any) -> None:
        """Say nothing."""


@contextmanager
def servers() -> Iterator[tuple[str, str]]:
    """A gRPC and an HTTP server; where they listen."""
    import grpc  # noqa: PLC0415 - as above

    calls = grpc.server(ThreadPoolExecutor(2))
    handler = grpc.unary_unary_rpc_method_handler(lambda request, _context: request)
    calls.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("trimtab.bench.Echo", {"Say": handler}),)
    )
    port = calls.add_insecure_port("127.0.0.1:0")
    calls.start()
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as pages:
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{port}", f"127.0.0.1:{pages.server_address[1]}"
        pages.shutdown()
    calls.stop(None).wait()


@contextmanager
def nobody(how: str) -> Iterator[str]:
    """The address of a control plane that can't be had."""
    with ExitStack() as kept:
        deaf = kept.enter_context(socket.socket())
        deaf.bind(("127.0.0.1", 0))  # and refuses
        if how == "is silent":
            deaf.listen()
        if how == "is black-holed":
            deaf.listen(0)
            for _ in range(3):  # the queue is full: the kernel drops what comes
                filling = kept.enter_context(socket.socket())
                filling.setblocking(False)
                filling.connect_ex(deaf.getsockname())
        yield f"127.0.0.1:{deaf.getsockname()[1]}"


def keep_lists(address: str, directory: str) -> None:
    """Have both services' lists kept."""
    import trimtab  # noqa: PLC0415 - as above

    pause = threading.Event()
    given: dict[str, Any] = {
        "bootstrap": bootstrap_of(address),
        "fallback": [trimtab.LastGood(directory)],
    }
    with (
        trimtab.insecure_channel(f"xds:///{CALLS}", **given),
        trimtab.insecure_channel(f"xds:///{PAGES}", **given),
    ):
        while len(list(Path(directory).glob("*.trimtab"))) < 2:
            pause.wait(0.05)


def row(plane: str, client: str, found: list[tuple[float, float, str]]) -> str:
    errors = sorted({error for _, _, error in found if error})
    if errors:
        return f"| {plane} | {client} | none: {', '.join(errors)} | | |"
    of_channel, of_process = [f[0] for f in found], [f[1] for f in found]
    return (
        f"| {plane} | {client} | {median(of_channel):.2f} | {max(of_channel):.2f} | "
        f"{median(of_process):.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--start", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=int, default=10, help="of each; one of gRPC's own")
    parser.add_argument("--write", metavar="FILE", help="write the page to FILE as well")
    given = parser.parse_args()
    if given.start:
        print(json.dumps(first_answer(*given.start)))
        return
    from machine import publish  # noqa: PLC0415 - not where the time runs
    from trimtab.testing import ControlPlane  # noqa: PLC0415

    rows, worst = [], 0.0
    with ExitStack() as open_, tempfile.TemporaryDirectory() as directory:
        calls, pages = open_.enter_context(servers())
        control = open_.enter_context(ControlPlane())
        control.set(CALLS, [calls])
        control.set(PAGES, [pages])
        serving = control.address
        keep_lists(serving, directory)
        for plane in PLANES:
            with nobody(plane) as address:
                at = serving if plane == "serves" else address
                for client in CLIENTS:
                    native = client.startswith("native")
                    runs = 1 if native else given.runs
                    found = [start(client, at, directory) for _ in range(runs)]
                    rows.append(row(plane, client, found))
                    print(rows[-1], file=sys.stderr, flush=True)
                    if not native:
                        worst = max(worst, *(seconds for seconds, _, _ in found))
    publish(
        "A cold start without a control plane",
        f"{__doc__.partition(chr(10))[2].strip()}\n\n{given.runs} starts of each.\n\n"
        "| the control plane | client | first answer after [s], median | most | from the process's start, median |\n"
        "|---|---|---|---|---|\n" + "\n".join(rows) + "\n\n"
        f"Target for trimtab: at most {TARGET_S:.0f} s; "
        f"{'reached' if worst <= TARGET_S else 'missed'} ({worst:.2f}).",
        given.write,
        "grpcio",
        "httpx",
    )


if __name__ == "__main__":
    main()
