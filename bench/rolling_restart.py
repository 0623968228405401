"""All pods are replaced, again and again, under load: how many requests fail?

Real processes. For each pod of a rollout: a new one starts; when it serves, the control plane tells of it, and
of the old one that it is draining; at that very moment the old one gets SIGTERM, as in Kubernetes, where
nobody waits for the clients either. ``drains`` ends its servers with ``trimtab.server.serve_until_signal``, with
a second for everybody to hear of it; ``stops`` ends them at once, with a grace for what is in flight. No
retries.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

import trimtab
import trimtab.aio
from machine import publish
from trimtab.client.bootstrap import load
from trimtab.model import Endpoint, Health, Snapshot
from trimtab.server import serve_until_signal
from trimtab.testing import ControlPlane

SERVICE = "orders.shop:80"
METHOD = "/trimtab.bench.Work/Do"
SERVICE_S, DEADLINE_S, GRACE_S, PROPAGATION_S = 0.005, 10.0, 10.0, 1.0
ENDS = ("drains", "stops")
CLIENTS = ("trimtab, asyncio", "trimtab, threads", "native xds, asyncio")


async def serve(end: str) -> None:
    async def do(_request: bytes, _context: Any) -> bytes:
        done = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(SERVICE_S, done.set_result, None)
        await done
        return b""

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handler = grpc.unary_unary_rpc_method_handler(do)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("trimtab.bench.Work", {"Do": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    wait_s = PROPAGATION_S if end == "drains" else 0.0
    print(port, flush=True)
    await serve_until_signal(server, propagation_s=wait_s, grace_s=GRACE_S)


class Pod:
    def __init__(self, end: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", end], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def endpoint(self, health: Health) -> Endpoint:
        return Endpoint("127.0.0.1", self.port, health=health)


class Fleet:
    """The pods, and what the control plane says of them."""

    def __init__(self, count: int, end: str, control_plane: ControlPlane) -> None:
        self._end = end
        self._control_plane = control_plane
        self._pods = [Pod(end) for _ in range(count)]
        self.replaced = 0
        self._tell()

    def _tell(self, *draining: Pod) -> None:
        endpoints = [pod.endpoint(Health.READY) for pod in self._pods]
        endpoints += [pod.endpoint(Health.DRAINING) for pod in draining]
        self._control_plane.set(Snapshot(SERVICE, tuple(endpoints)))

    def replace_one(self) -> None:
        self._pods.append(Pod(self._end))
        old = self._pods.pop(0)
        self._tell(old)
        old.process.send_signal(signal.SIGTERM)
        old.process.wait(GRACE_S + 20.0)
        self._tell()
        self.replaced += 1

    def end(self) -> None:
        for pod in self._pods:
            pod.process.kill()
            pod.process.wait()


def text_of(error: Any) -> str:
    """Alike for all servers, so that equal errors are counted together."""
    address = re.compile(r"ipv4:127\.0\.0\.1:\d+")
    return f"{error.code().name}: {address.sub('ADDRESS', error.details() or '')}"


class Seen:
    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.sent = 0
        self.failed: Counter[str] = Counter()
        self.over = threading.Event()


async def load_on_loop(make: Callable[[], grpc.aio.Channel], callers: int, seen: Seen) -> None:
    channel = make()
    stub: Any = channel.unary_unary(METHOD)
    await stub(b"", timeout=30, wait_for_ready=True)

    async def call() -> None:
        while seen.sent < seen.wanted or not seen.over.is_set():
            seen.sent += 1
            try:
                await stub(b"", timeout=DEADLINE_S)
            except grpc.aio.AioRpcError as error:
                seen.failed[text_of(error)] += 1

    await asyncio.gather(*(call() for _ in range(callers)))
    await channel.close()


def load_on_threads(make: Callable[[], grpc.Channel], callers: int, seen: Seen) -> None:
    channel = make()
    stub: Any = channel.unary_unary(METHOD)
    stub(b"", timeout=30, wait_for_ready=True)
    lock = threading.Lock()

    def call() -> None:
        while seen.sent < seen.wanted or not seen.over.is_set():
            with lock:
                seen.sent += 1
            try:
                stub(b"", timeout=DEADLINE_S)
            except grpc.RpcError as error:
                ended: Any = error
                with lock:
                    seen.failed[text_of(ended)] += 1

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    channel.close()


def measure(client: str, end: str, given: argparse.Namespace) -> dict[str, Any]:
    target = f"xds:///{SERVICE}"
    with ControlPlane() as control_plane:
        bootstrap = control_plane.bootstrap()
        uri = load(bootstrap).servers[0].uri
        fleet = Fleet(given.pods, end, control_plane)
        seen = Seen(given.requests)

        def roll() -> None:
            # At least one whole rollout, then more until the requests are sent.
            while fleet.replaced < given.pods or seen.sent < seen.wanted:
                fleet.replace_one()
            seen.over.set()

        rolling = threading.Thread(target=roll)
        rolling.start()
        try:
            if client == "trimtab, threads":
                load_on_threads(
                    lambda: trimtab.insecure_channel(target, bootstrap=bootstrap),
                    given.callers,
                    seen,
                )
            elif client == "trimtab, asyncio":
                asyncio.run(
                    load_on_loop(
                        lambda: trimtab.aio.insecure_channel(target, bootstrap=bootstrap),
                        given.callers,
                        seen,
                    )
                )
            else:
                plain = [{"server_uri": uri, "channel_creds": [{"type": "insecure"}]}]
                os.environ["GRPC_XDS_BOOTSTRAP_CONFIG"] = json.dumps(
                    {"xds_servers": plain, "node": {"id": "native"}}
                )
                asyncio.run(
                    load_on_loop(lambda: grpc.aio.insecure_channel(target), given.callers, seen)
                )
        finally:
            seen.wanted = 0
            rolling.join()
            fleet.end()
    return {
        "client": client,
        "end": end,
        "requests": seen.sent,
        "replaced": fleet.replaced,
        "failed": sum(seen.failed.values()),
        "errors": dict(seen.failed),
    }


def verdict(rows: list[dict[str, Any]]) -> str:
    def failed(end: str, client: str) -> int:
        return sum(r["failed"] for r in rows if r["end"] == end and r["client"].startswith(client))

    drained = failed("drains", "trimtab")
    losing = [
        f"{r['client']} {1e6 * r['failed'] / r['requests']:.0f}"
        for r in rows
        if r["end"] == "stops"
    ]
    return (
        f"Target: 0 of 100,000 where servers drain; {'missed' if drained else 'reached'}. "
        "Where they stop at once there is no target, as calls that are under way there are lost whoever sent them; of a "
        f"million requests failed: {', '.join(losing)}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", choices=ENDS, help=argparse.SUPPRESS)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--pods", type=int, default=10)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--client", action="append", choices=CLIENTS)
    parser.add_argument("--end", action="append", choices=ENDS)
    parser.add_argument("--json", action="store_true", help="one line for each row, no table")
    parser.add_argument("--write", help="a Markdown file for the table")
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve(given.serve))
        return
    rows = []
    for end in given.end or ENDS:
        for client in given.client or CLIENTS:
            rows.append(measure(client, end, given))
            if given.json:
                print(json.dumps(rows[-1]), flush=True)
    if given.json:
        return
    table = "\n".join(
        f"| {r['end']} | {r['client']} | {r['requests']:,} | {r['replaced']} | {r['failed']} | "
        f"{'; '.join(f'{n} x {text}' for text, n in r['errors'].items()) or 'none'} |"
        for r in rows
    )
    body = (
        f"{given.pods} pods, replaced one after the other, again and again; {given.callers} callers without "
        f"pause, {1e3 * SERVICE_S:g} ms, no retries.\n\n"
        "| a server that gets SIGTERM | client | requests | pods replaced | failed | errors |\n"
        f"|---|---|---|---|---|---|\n{table}\n\n{verdict(rows)}"
    )
    publish("Rolling restart", body, given.write, "grpcio")


if __name__ == "__main__":
    main()
