"""What reading a live cluster costs: CPU of the whole way from the socket to the snapshot.

A bare HTTP server on loopback, in a process of its own, sends one list of 100 EndpointSlices of 100
endpoints each, as a real API server encodes them, then watch events of one slice each. Measured in
the reader's process: CPU until the first snapshot, and per event; and, with ``--large``, the
resident memory that 100,000 endpoints take.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import resource
import statistics
import time
from pathlib import Path

from aiohttp import web

from machine import publish
from trimtab.discovery.kubernetes.source import Kubernetes
from trimtab.discovery.kubernetes.timing import Timing
from trimtab.model import Synced

PER_SLICE, EVENTS, ROUNDS = 100, 200, 7
_PRIME = 97  # so that no slice comes twice with the same content
TARGET_LIST_MS, TARGET_EVENT_MS, TARGET_MB = 150.0, 1.0, 1000.0

_HEADING = (
    "CPU in the control plane's process from the socket to the snapshot: list, decode, fold; and one "
    "watch event of a slice of 100 endpoints, to the new snapshot of its whole Service. Loopback HTTP, "
    "{rounds} processes each: median (least-most)."
)
_LARGE = (
    "100,000 endpoints in 1,000 slices of 100 Services: {cpu:.1f} s CPU for the list, {grown:.0f} MB "
    "more resident memory in the source (target: {target:.0f} MB for the process), median of 3 "
    "processes."
)


class Access:
    """A server on loopback without credentials."""

    name = origin = "bench"
    namespace = "default"
    proxy = tls_server_name = None

    def __init__(self, server):
        self.server = server

    async def headers(self, *, refused=False):  # noqa: ARG002 - part of the interface
        return {}

    async def tls(self):
        return True


def service(n):
    return {
        "metadata": {"name": f"orders-{n}", "namespace": "shop", "resourceVersion": "1"},
        "spec": {"ports": [{"name": "grpc", "port": 8080, "protocol": "TCP"}]},
    }


def endpoint_slice(number, *, of, version=1, turn=-1):
    """A slice with everything that the controller and the API server put into it."""
    return {
        "metadata": {
            "name": f"orders-{number:04}",
            "generateName": "orders-",
            "namespace": "shop",
            "uid": f"6b1f0c5e-8c5c-4c5e-9d5e-{number:012}",
            "resourceVersion": str(version),
            "generation": version,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {
                "kubernetes.io/service-name": f"orders-{of}",
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
            "annotations": {
                "endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z"
            },
            "managedFields": [
                {
                    "manager": "kube-controller-manager",
                    "operation": "Update",
                    "apiVersion": "discovery.k8s.io/v1",
                    "fieldsType": "FieldsV1",
                    "fieldsV1": {"f:addressType": {}, "f:endpoints": {}, "f:ports": {}},
                }
            ],
        },
        "addressType": "IPv4",
        "ports": [{"name": "grpc", "port": 50051, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": [f"10.{number >> 8}.{number & 255}.{i + 1}"],
                "conditions": {"ready": i != turn, "serving": i != turn, "terminating": False},
                "nodeName": f"node-{i % 50}",
                "zone": f"zone-{i % 3}",
                "targetRef": {
                    "kind": "Pod",
                    "namespace": "shop",
                    "name": f"orders-{number}-{i}",
                    "uid": f"0d5e6b1f-8c5c-4c5e-9d5e-{number:06}{i:06}",
                },
            }
            for i in range(PER_SLICE)
        ],
    }


def serve(slices, per_service, pipe):
    """The server's process; each line on the pipe makes it send one event more."""

    async def main():
        items = [endpoint_slice(n, of=n // per_service) for n in range(slices)]
        services = [service(n) for n in range(-(-slices // per_service))]
        bodies = {
            "services": json.dumps({"metadata": {"resourceVersion": "1"}, "items": services}),
        }
        pages = [
            json.dumps(
                {
                    "metadata": {
                        "resourceVersion": "1",
                        "continue": str(i + 500) if i + 500 < slices else "",
                    },
                    "items": items[i : i + 500],
                }
            )
            for i in range(0, slices, 500)
        ]
        wanted = asyncio.Queue()

        async def list_or_watch(request):
            plural = request.path.rpartition("/")[2]
            if not request.query.get("watch"):
                page = int(request.query.get("continue") or 0) // 500
                text = bodies.get(plural) or pages[page]
                return web.Response(text=text, content_type="application/json")
            response = web.StreamResponse()
            await response.prepare(request)
            version = 1
            while plural == "endpointslices":
                number = await wanted.get()
                version += 1
                changed = endpoint_slice(
                    number, of=number // per_service, version=version, turn=version % _PRIME
                )
                event = {"type": "MODIFIED", "object": changed}
                await response.write(json.dumps(event).encode() + b"\n")
            return await asyncio.Event().wait()

        app = web.Application()
        app.router.add_get("/{path:.*}", list_or_watch)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        loop = asyncio.get_running_loop()
        loop.add_reader(pipe.fileno(), lambda: wanted.put_nowait(pipe.recv()))
        pipe.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(main())


async def read(port, pipe, events):
    """CPU until the first snapshot of everything [ms]; per event [ms]; resident memory [MB]."""
    gc.collect()
    begin, memory = time.process_time(), resident_mb()
    source = Kubernetes(Access(f"http://127.0.0.1:{port}"), print, timing=Timing(check_s=0))
    stream = source.events()
    async for event in stream:
        if isinstance(event, Synced):
            break
    listed = (time.process_time() - begin) * 1e3
    grown = resident_mb() - memory
    each = []
    for number in range(events):
        begin = time.process_time()
        pipe.send(number % 100)
        await anext(stream)
        each.append((time.process_time() - begin) * 1e3)
    await stream.aclose()
    return listed, statistics.median(each) if each else 0.0, grown


def resident_mb():
    text = Path("/proc/self/statm").read_text()
    return int(text.split()[1]) * resource.getpagesize() / 1e6


def measure(slices, per_service, events, out):
    """In a process of its own, so that no other measurement is in its memory."""
    here, there = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(slices, per_service, there), daemon=True)
    server.start()
    port = here.recv()
    try:
        out.send(asyncio.run(asyncio.wait_for(read(port, here, events), 120)))
    finally:
        server.kill()
        server.join()


def run(slices, per_service, events=EVENTS):
    here, there = multiprocessing.Pipe()
    child = multiprocessing.Process(target=measure, args=(slices, per_service, events, there))
    child.start()
    result = here.recv()
    child.join()
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", metavar="FILE", help="write the table there")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    multiprocessing.set_start_method("spawn")
    rows = []
    for name, per_service in (("1 Service", 100), ("10 Services", 10)):
        found = [run(100, per_service) for _ in range(arguments.rounds)]
        lists, events, _ = zip(*found, strict=True)
        rows.append(
            f"| 10,000 endpoints of {name} | {statistics.median(lists):.0f} "
            f"({min(lists):.0f}-{max(lists):.0f}) | {statistics.median(events):.2f} "
            f"({min(events):.2f}-{max(events):.2f}) |"
        )
    large = [run(1000, 10, events=0) for _ in range(3)]
    grown = statistics.median(m for _, _, m in large)
    cpu = statistics.median(c for c, _, _ in large) / 1e3
    lines = [
        _HEADING.format(rounds=arguments.rounds),
        "",
        "| fleet | list [ms CPU] | event [ms CPU] |",
        "|---|---|---|",
        *rows,
        f"| target | {TARGET_LIST_MS:.0f} | {TARGET_EVENT_MS:.0f} |",
        "",
        _LARGE.format(cpu=cpu, grown=grown, target=TARGET_MB),
    ]
    publish("Reading a live cluster", "\n".join(lines), arguments.write, "aiohttp", "msgspec")


if __name__ == "__main__":
    main()
