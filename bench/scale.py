"""How a control plane grows with services, endpoints and clients, on one machine.

An API server on loopback (bare HTTP, a process of its own) lists Services of equal size; the production
control plane, a process of its own, reads them and serves clients that each follow one of them. Measured
for many sizes: time and CPU from its start until everything is applied, and resident memory; then one
straight line through each series says what one service, one endpoint and one client cost.

The clients' connections are in plaintext. ``--tls`` measures their series alone, in plaintext and over TLS.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from machine import publish
from over_tls import server_side, switched
from push import Child
from reflector import Access
from trimtab.control.collector import Collector
from trimtab.control.config import Address
from trimtab.control.serve import ControlPlane, ServeOptions
from trimtab.discovery.kubernetes.source import Kubernetes
from trimtab.discovery.kubernetes.timing import Timing
from xds_servers import cpu_seconds, resident_bytes

HERE = Path(__file__)
PER_PAGE = 500
SERIES = {
    "services": [(n, 20_000 // n, 0) for n in (1_000, 2_000, 5_000, 10_000)],
    "endpoints": [(2_000, n, 0) for n in (5, 10, 25, 50)],
    "clients": [(1_000, 10, n) for n in (0, 500, 1_000, 2_000)],
}
LARGEST = (10_000, 10, 1_000)
EMPTY = (1, 1, 0)
TARGET_S, TARGET_MB = 20.0, 1_500.0
MILLION = 1_000_000
_PAGE = """\
Start-up: from the start of the control plane's parts until every Service and slice is applied and
clients are answered. Memory: resident, after a garbage collection, the clients connected and in sync,
in plaintext (`python bench/scale.py --tls` has both).

{rows}

Least-squares slopes of the three series:

{costs}

All of it begins with what a control plane needs that knows next to nothing (one service, one endpoint, no
client): {empty.memory:.0f} MB.

| target at {largest.services:,} services and {largest.endpoints:,} endpoints | | here | |
|---|---|---|---|
| start-up [s] | ≤ {seconds:g} | {largest.seconds:.1f} | {in_time} |
| memory [MB] | ≤ {megabytes:,.0f} | {largest.memory:,.0f} | {in_memory} |

## On paper: {million:,} endpoints

By these slopes {million:,} endpoints in {tenth:,} services take {gigabytes:.1f} GB and {cpu:.0f} s of
CPU at the start in one process, which is possible and not wise: what limits first is not the memory but
the rate of change, as every change of an endpoint is a fold of its service and a write to every client
that follows it ([push](push.md)). Split before that:

- **By namespace**: one Deployment of trimtab per group of namespaces (`--namespace`, `--selector`), each
  with a Service of its own; a client's bootstrap names the one for the services it calls.
- **By cluster**: one Deployment per Kubernetes cluster, and several `--kubeconfig` only where a service
  spans clusters.
- **Replicas** share nothing and compute the same bytes: with about one per 1,000 clients the median client
  has a push in under a tenth of a second, the last a little later ([push](push.md)), and each replica lists and watches for itself. The API server so carries two
  watches (Services, EndpointSlices) per replica and cluster, whatever the number of clients; and about every ten
  minutes each replica [compares](../reference/kubernetes.md#how-it-is-read) what it knows of each kind with a list of
  all objects' metadata, in pages of 500.
"""


@dataclass(frozen=True)
class Size:
    """A fleet and what it took."""

    services: int
    per_service: int
    clients: int
    seconds: float
    cpu: float
    memory: float
    connecting: float

    @property
    def endpoints(self) -> int:
        return self.services * self.per_service


def service(number: int) -> bytes:
    """As an API server lists it."""
    return json.dumps(
        {
            "metadata": {
                "name": f"s{number}",
                "namespace": "shop",
                "uid": f"6b1f0c5e-8c5c-4c5e-9d5e-{number:012}",
                "resourceVersion": "1",
                "labels": {"app": f"s{number}"},
            },
            "spec": {
                "clusterIP": "10.96.0.1",
                "ports": [{"name": "grpc", "port": 8080, "protocol": "TCP", "targetPort": 50051}],
                "selector": {"app": f"s{number}"},
                "type": "ClusterIP",
            },
        }
    ).encode()


def endpoint_slice(number: int, size: int) -> bytes:
    """The one slice of a service."""
    endpoints = []
    for i in range(size):
        at = number * size + i
        endpoints.append(
            {
                "addresses": [f"10.{at >> 16}.{at >> 8 & 255}.{at & 255}"],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "nodeName": f"node-{at % 500}",
                "zone": f"zone-{at % 3}",
                "targetRef": {
                    "kind": "Pod",
                    "namespace": "shop",
                    "name": f"s{number}-{i}",
                    "uid": f"0d5e6b1f-8c5c-4c5e-9d5e-{at:012}",
                },
            }
        )
    return json.dumps(
        {
            "metadata": {
                "name": f"s{number}-x",
                "namespace": "shop",
                "uid": f"7c1f0c5e-8c5c-4c5e-9d5e-{number:012}",
                "resourceVersion": "1",
                "labels": {"kubernetes.io/service-name": f"s{number}"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "grpc", "port": 50051, "protocol": "TCP"}],
            "endpoints": endpoints,
        }
    ).encode()


async def api_server(services: int, per_service: int) -> None:
    """The API server's process: pages of a list, and watches on which nothing happens."""
    items = {
        "services": [service(n) for n in range(services)],
        "endpointslices": [endpoint_slice(n, per_service) for n in range(services)],
    }

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.query.get("watch"):
            response = web.StreamResponse()
            await response.prepare(request)
            await asyncio.Event().wait()
        begin = int(request.query.get("continue") or 0)
        page = items[request.path.rpartition("/")[2]][begin : begin + PER_PAGE]
        more = str(begin + PER_PAGE) if begin + PER_PAGE < services else ""
        head = json.dumps({"resourceVersion": "1", "continue": more}).encode()
        body = b'{"metadata":%s,"items":[%s]}' % (head, b",".join(page))
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # noqa: SLF001 - aiohttp has no other way
    print(json.dumps({"port": port}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def control_plane(api: int) -> None:
    """The measured process."""
    begin = time.monotonic()
    options = ServeOptions(
        xds=Address("127.0.0.1", 0), admin=Address("127.0.0.1", 0), security=server_side()
    )
    plane = ControlPlane(options)
    with Collector(plane.counters, asyncio.get_running_loop().time):
        await _measured(plane, api, begin)


async def _measured(plane: ControlPlane, api: int, begin: float) -> None:
    await plane.start()

    def make(report, _counters):
        return Kubernetes(Access(f"http://127.0.0.1:{api}"), report, timing=Timing())

    following = asyncio.create_task(plane.follow([("bench", make)]))
    await plane.store.synced.wait()
    facts = {
        "port": plane.xds_address.port,
        "seconds": time.monotonic() - begin,
        "cpu": cpu_seconds(),
        "clusters": len(plane.store.catalog.clusters()),
    }
    print(json.dumps(facts), flush=True)
    loop = asyncio.get_running_loop()
    while (await loop.run_in_executor(None, sys.stdin.readline)).strip() == "memory":
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        used = cpu_seconds()  # before the garbage collection of the next line
        print(json.dumps({"memory": resident_bytes(), "peak": peak, "cpu": used}), flush=True)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await plane.stop()


def measure(services: int, per_service: int, clients: int) -> Size:
    """Start all processes for one size."""
    api = Child(sys.executable, str(HERE), "--api", str(services), str(per_service))
    plane = Child(sys.executable, str(HERE), "--plane", str(api.read()["port"]))
    facts = plane.read()
    if facts["clusters"] != services:
        raise SystemExit(f"{facts['clusters']} clusters of {services}")
    crowd = None
    if clients:
        followed = ",".join(f"s{n}.shop:8080" for n in range(min(services, 1_000)))
        receivers = str(HERE.with_name("xds_receivers.py"))
        crowd = Child(sys.executable, receivers, str(facts["port"]), followed, "sotw", "")
        seen = crowd.ask(f"connect {clients}")
        if seen["received"] != clients:
            raise SystemExit(f"{seen} of {clients} clients")
    found = plane.ask("memory")
    for child in (crowd, plane, api):
        if child is not None:
            child.close()
    memory, connecting = found["memory"] / 1e6, found["cpu"] - facts["cpu"]
    return Size(services, per_service, clients, facts["seconds"], facts["cpu"], memory, connecting)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", metavar="FILE")
    parser.add_argument("--tls", action="store_true", help="what a client costs over TLS")
    parser.add_argument("--api", nargs=2, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--plane", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.api:
        asyncio.run(api_server(*args.api))
        return
    if args.plane:
        asyncio.run(control_plane(args.plane))
        return
    if args.tls:
        publish("What a client costs over TLS", tls_page(), args.write, "trimtab", "grpcio")
        return
    sizes: dict[str, list[Size]] = {}
    for axis, wanted in (*SERIES.items(), ("largest", [LARGEST]), ("empty", [EMPTY])):
        sizes[axis] = []
        for one in wanted:
            print(f"{axis}: {one}", file=sys.stderr, flush=True)
            sizes[axis].append(measure(*one))
    publish("How the control plane grows", page(sizes), args.write, "trimtab", "aiohttp", "grpcio")


def slope(series: list[Size], axis: str, figure: str) -> float:
    """What one more costs: the slope of the least-squares line."""
    points = [(getattr(s, axis), getattr(s, figure)) for s in series]
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def tls_page() -> str:
    """The series of clients, in plaintext and over TLS."""
    rows = [
        "| connections | clients | memory [MB] | CPU while they connect [s] |",
        "|---|---|---|---|",
    ]
    costs = ["| one more client | memory [KB] | CPU to connect [ms] |", "|---|---|---|"]
    for name, on in (("plaintext", False), ("TLS", True)):
        series = []
        for one in SERIES["clients"]:
            print(f"{name}: {one}", file=sys.stderr, flush=True)
            with switched(on=on):
                series.append(measure(*one))
        rows += [
            f"| {name} | {s.clients:,} | {s.memory:.0f} | {s.connecting:.2f} |" for s in series
        ]
        memory, cpu = (slope(series, "clients", f) for f in ("memory", "connecting"))
        costs.append(f"| {name} | {memory * 1e3:.0f} | {cpu * 1e3:.2f} |")
    return (
        "Memory: of the control plane, resident, after a garbage collection, with 1,000 Services of 10 "
        "endpoints. CPU: from the end of its start until all are connected and in sync. Clients show no "
        "certificate and no token; certificates are of ECDSA P-256.\n\n"
        + "\n".join(rows)
        + "\n\nLeast-squares slopes:\n\n"
        + "\n".join(costs)
    )


def page(sizes: dict[str, list[Size]]) -> str:
    """The tables."""
    rows = [
        "| services | endpoints | clients | start-up [s] | CPU [s] | memory [MB] |",
        "|---|---|---|---|---|---|",
    ]
    rows += [
        f"| {s.services:,} | {s.endpoints:,} | {s.clients:,} | {s.seconds:.1f} | {s.cpu:.1f} "
        f"| {s.memory:.0f} |"
        for series in sizes.values()
        for s in series
    ]
    costs = ["| one more | memory [bytes] | CPU at start [us] |", "|---|---|---|"]
    memory = {axis: slope(sizes[axis], axis, "memory") for axis in SERIES}
    work = {axis: slope(sizes[axis], axis, "cpu") for axis in ("services", "endpoints")}
    for axis in SERIES:
        start = f"{work[axis] * 1e6:,.0f}" if axis in work else ""
        costs.append(f"| {axis[:-1]} | {memory[axis] * 1e6:,.0f} | {start} |")
    (largest,), (empty,) = sizes["largest"], sizes["empty"]
    million = MILLION * memory["endpoints"] + MILLION / 10 * memory["services"]
    return _PAGE.format(
        rows="\n".join(rows),
        costs="\n".join(costs),
        largest=largest,
        empty=empty,
        in_time="met" if largest.seconds <= TARGET_S else "missed",
        in_memory="met" if largest.memory <= TARGET_MB else "missed",
        seconds=TARGET_S,
        megabytes=TARGET_MB,
        million=MILLION,
        tenth=MILLION // 10,
        gigabytes=million / 1e3,
        cpu=MILLION * work["endpoints"] + MILLION / 10 * work["services"],
    )


if __name__ == "__main__":
    main()
