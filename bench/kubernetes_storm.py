"""What a storm of watch events costs, and whether memory comes back after many Services.

A bare HTTP server on loopback, in a process of its own, sends watch events: first the readiness of
endpoints flapping as fast as they are read, up to ``--rate``; then thousands of Services made and
deleted, several times. In the measured process: the production source and store, and a listener in
place of a stream. Loop lag is how much later than due a timer of 5 ms fires.

With ``--trim`` the C library gives back what it can after each round. Together with
``PYTHONMALLOC=malloc`` that shows how much of what stays is the allocator's and not ours.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import json
import multiprocessing
import resource
import sys
import time
from collections import Counter
from pathlib import Path

from aiohttp import web

from machine import publish
from reflector import Access
from trimtab.control.metrics import METRICS
from trimtab.control.store import Store
from trimtab.discovery.kubernetes.source import Kubernetes
from trimtab.discovery.kubernetes.timing import Timing
from trimtab.model import Health
from trimtab.telemetry import Counters
from trimtab.xds.catalog import Catalog

SERVICES, ENDPOINTS, MANY, ROUNDS = 100, 10, 5000, 4
TICK_S, LAG_S = 0.01, 0.005


def service(name):
    return {
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": "1"},
        "spec": {"ports": [{"name": "grpc", "port": 8080, "protocol": "TCP"}]},
    }


def endpoint_slice(name, number, unready=-1):
    return {
        "metadata": {
            "name": f"{name}-x",
            "namespace": "shop",
            "resourceVersion": "1",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": [{"name": "grpc", "port": 50051, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": [f"10.{number >> 8}.{number & 255}.{i + 1}"],
                "conditions": {"ready": i != unready, "serving": i != unready},
                "targetRef": {"kind": "Pod", "name": f"{name}-{i}", "uid": f"{name}-{i}"},
            }
            for i in range(ENDPOINTS)
        ],
    }


def line(kind, document, version):
    document["metadata"]["resourceVersion"] = str(version)
    return json.dumps({"type": kind, "object": document}).encode() + b"\n"


class Server:
    """One list, and watches that are written to by command."""

    def __init__(self):
        self.version = 1
        self.lists = 0
        self.watches = {}

    async def handle(self, request):
        plural = request.path.rpartition("/")[2]
        if request.query.get("watch"):
            response = web.StreamResponse()
            await response.prepare(request)
            self.watches[plural] = response
            return await asyncio.Event().wait()
        self.lists += 1
        made = service if plural == "services" else endpoint_slice
        items = [
            made(f"orders-{n}", *(() if plural == "services" else (n,))) for n in range(SERVICES)
        ]
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": items})

    async def storm(self, rate, seconds):
        """Events sent, and per second."""
        cut = [
            [
                line("MODIFIED", endpoint_slice(f"orders-{n}", n, unready), "@").split(b"@")
                for unready in range(-1, ENDPOINTS)
            ]
            for n in range(SERVICES)
        ]
        loop = asyncio.get_running_loop()
        begin, sent = loop.time(), 0
        while (now := loop.time()) < begin + seconds:
            due = min(int((now - begin) * rate) - sent, 2000)
            out = []
            for _ in range(due):
                sent += 1
                self.version += 1
                head, tail = cut[sent % SERVICES][sent // SERVICES % (ENDPOINTS + 1)]
                out.append(b"%s%d%s" % (head, self.version, tail))
            if out:
                await self.watches["endpointslices"].write(b"".join(out))
            await asyncio.sleep(TICK_S)
        took = loop.time() - begin
        for n in range(SERVICES):  # the end: the first endpoint is unready everywhere
            self.version += 1
            text = line("MODIFIED", endpoint_slice(f"orders-{n}", n, 0), self.version)
            await self.watches["endpointslices"].write(text)
        return sent, sent / took, self.lists

    async def bookmark(self):
        """What was deleted before need not be remembered any more."""
        for plural, made in (("services", service("")), ("endpointslices", endpoint_slice("", 0))):
            self.version += 1
            await self.watches[plural].write(line("BOOKMARK", made, self.version))

    async def many(self, kind, count):
        for n in range(count):
            self.version += 1
            name = f"many-{n}"
            made = {"services": service(name), "endpointslices": endpoint_slice(name, n + 1000)}
            for plural, document in made.items():
                await self.watches[plural].write(line(kind, document, self.version))
        return self.lists


def serve(pipe):
    async def main():
        server = Server()
        app = web.Application()
        app.router.add_get("/{path:.*}", server.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        commands = asyncio.Queue()
        asyncio.get_running_loop().add_reader(
            pipe.fileno(), lambda: commands.put_nowait(pipe.recv())
        )
        pipe.send(runner.addresses[0][1])
        while True:
            name, *arguments = await commands.get()
            pipe.send(await getattr(server, name)(*arguments))

    asyncio.run(main())


class Listener:
    """Counts pushes by cluster."""

    def __init__(self):
        self.pushes = Counter()

    def changed(self, clusters, since):  # noqa: ARG002 - part of the interface
        self.pushes.update(clusters)
        return True


async def watch_lag(into):
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_S
        await asyncio.sleep(LAG_S)
        into.append((loop.time() - due) * 1e3)


def percentile(values, share):
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def resident_mb():
    gc.collect()
    text = Path("/proc/self/statm").read_text()
    return int(text.split()[1]) * resource.getpagesize() / 1e6


def blocks():
    """Objects that Python has memory for, in thousands; 0 with another allocator than its own."""
    gc.collect()
    return sys.getallocatedblocks() / 1e3


async def until(condition, within=120.0):
    loop = asyncio.get_running_loop()
    end = loop.time() + within
    while not condition():
        if loop.time() > end:
            raise TimeoutError
        await asyncio.sleep(0.02)


async def measure(pipe, rate, seconds, *, trim):
    counters = Counters(METRICS)
    loop = asyncio.get_running_loop()
    store = Store(Catalog(), counters, clock=loop.time)
    source = Kubernetes(Access(f"http://127.0.0.1:{pipe.recv()}"), print, timing=Timing(check_s=0))
    listener = Listener()
    store.listen(listener)
    running = asyncio.create_task(store.run([("bench", source)]))
    await asyncio.wait_for(store.synced.wait(), 30)
    await asyncio.sleep(0.5)

    async def call(*command):
        await loop.run_in_executor(None, pipe.send, command)
        return await loop.run_in_executor(None, pipe.recv)

    def right():
        return all(
            [e.health is Health.READY for e in s.endpoints] == [False] + [True] * (ENDPOINTS - 1)
            for s in store.catalog.clusters().values()
        )

    listener.pushes.clear()
    before, cpu, begin = resident_mb(), time.process_time(), loop.time()
    lags = []
    lag = asyncio.create_task(watch_lag(lags))
    sent, reached, lists = await call("storm", rate, seconds)
    told = loop.time()
    await until(right)
    took, behind = loop.time() - begin, loop.time() - told
    used = (time.process_time() - cpu) / took
    most = max(listener.pushes.values()) / took
    after = resident_mb()
    rows = [
        ("events sent", f"{sent:,} in {seconds} s: {reached:,.0f}/s (asked: {rate:,}/s)"),
        (
            "event loop lag p50, p99, most",
            f"{percentile(lags, 0.5):.1f}, {percentile(lags, 0.99):.1f}, {max(lags):.1f} ms (target of p99: 50)",
        ),
        ("pushes per second, of the Service with most", f"{most:.1f} (target: 10)"),
        ("CPU", f"{used:.0%} of a core"),
        ("the right end state, after the last event", f"{behind:.2f} s"),
        ("resident memory before, after", f"{before:.0f}, {after:.0f} MB"),
        ("lists taken (2 at the start)", f"{lists}"),
    ]
    lags.clear()
    sizes = [("before", resident_mb(), blocks())]
    for i in range(1, ROUNDS + 1):
        await call("many", "ADDED", MANY)
        await until(lambda: len(store.catalog.clusters()) == SERVICES + MANY)
        sizes.append((f"round {i}: made", resident_mb(), blocks()))
        await call("many", "DELETED", MANY)
        await until(lambda: len(store.catalog.clusters()) == SERVICES)
        await call("bookmark")
        await asyncio.sleep(1)
        listener.pushes.clear()
        gc.collect()
        if trim:
            ctypes.CDLL(None).malloc_trim(0)
        sizes.append((f"round {i}: deleted", resident_mb(), blocks()))
    lag.cancel()
    running.cancel()
    await asyncio.gather(lag, running, return_exceptions=True)
    return rows, sizes, percentile(lags, 0.99)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", metavar="FILE", help="write the table there")
    parser.add_argument("--rate", type=int, default=10_000, help="events per second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--trim", action="store_true", help="give memory back after each round")
    arguments = parser.parse_args()
    multiprocessing.set_start_method("spawn")
    here, there = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(there,), daemon=True)
    server.start()
    try:
        rows, sizes, lag = asyncio.run(
            measure(here, arguments.rate, arguments.seconds, trim=arguments.trim)
        )
    finally:
        server.kill()
        server.join()
    lines = [
        (
            f"{SERVICES} Services of {ENDPOINTS} endpoints; one endpoint's readiness changes with each "
            "event. Server in a process of its own; one machine for both."
        ),
        "",
        "| storm | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows),
        "",
        (
            f"{MANY:,} Services made at once, then deleted, {ROUNDS} times (loop lag p99: "
            f"{lag:.0f} ms, the measuring's own garbage collections included):"
        ),
        "",
        "| | resident [MB] | Python's blocks [thousands] |",
        "|---|---|---|",
        *(f"| {moment} | {size:.0f} | {number:.0f} |" for moment, size, number in sizes),
    ]
    before, first, last = sizes[0], sizes[2], sizes[-1]
    lines += [
        "",
        (
            f"Target: within 10 % of what it was before. Resident, from before to the end: "
            f"{last[1] / before[1] - 1:+.0%}; from the first round's end to the last's: "
            f"{last[1] / first[1] - 1:+.0%}. What stays is explained under row K22 of the "
            "[faults](../reference/kubernetes-faults.md#memory)."
        ),
    ]
    publish("A storm of events", "\n".join(lines), arguments.write, "aiohttp", "msgspec")


if __name__ == "__main__":
    main()
