"""What folding slices costs: the first reading of a large service, and one change in it.

CPU milliseconds of the pure fold (no parsing, no network): 100 slices of 100 endpoints, of one
Service and of 100, then one endpoint of one slice turning, with the new snapshot of the whole
Service as the result.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time

from machine import publish
from trimtab.discovery.kube_objects import (
    EndpointSlice,
    KubeObject,
    Problem,
    Service,
    decode,
)
from trimtab.discovery.slices import SliceFold
from trimtab.model import Updated

SLICES, PER_SLICE = 100, 100
FLEETS = (10, SLICES)  # slices of the Service in which one changes
ROUNDS = 20
TARGET_ALL_MS, TARGET_EVENT_MS = 100.0, 1.0


def service(name: str = "orders") -> Service:
    made = decode(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"ports": [{"name": "grpc", "port": 8080}]},
        }
    )
    assert isinstance(made, Service)
    return made


def endpoint_slice(number: int, *, of: str = "orders", turn: int = 0) -> EndpointSlice:
    """A slice as the controller writes it; ``turn`` n makes its n-th endpoint unready."""
    made = decode(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"orders-{number:03}",
                "namespace": "shop",
                "labels": {"kubernetes.io/service-name": of},
                "annotations": {
                    "endpoints.kubernetes.io/last-change-trigger-time": (
                        f"2026-01-01T00:00:{turn % 60:02}Z"
                    )
                },
            },
            "addressType": "IPv4",
            "ports": [{"name": "grpc", "port": 50051, "protocol": "TCP"}],
            "endpoints": [
                {
                    "addresses": [f"10.1.{number}.{i}"],
                    "conditions": {
                        "ready": i != turn,
                        "serving": i != turn,
                        "terminating": False,
                    },
                    "nodeName": f"node-{i % 20}",
                    "zone": f"zone-{i % 3}",
                    "targetRef": {
                        "kind": "Pod",
                        "name": f"orders-{number}-{i}",
                        "uid": f"3c1c8a4e-0000-4000-8000-{number:06}{i:06}",
                    },
                }
                for i in range(1, PER_SLICE + 1)
            ],
        }
    )
    assert isinstance(made, EndpointSlice)
    return made


def milliseconds(fold: SliceFold, objects: list[KubeObject]) -> tuple[float, int]:
    """CPU time of applying them, and the number of endpoints of the last snapshot."""
    gc.collect()
    size = 0
    begin = time.process_time_ns()
    for obj in objects:
        for event in fold.apply(obj):
            if isinstance(event, Updated):
                size = len(event.snapshot.endpoints)
    return (time.process_time_ns() - begin) / 1e6, size


def changes(fold: SliceFold, slices: int) -> list[float]:
    """One slice's change, some times, in a Service of so many slices."""
    times: list[float] = []
    for turn in range(1, ROUNDS + 1):
        changed = endpoint_slice(turn * 4 % slices, turn=turn)
        spent, size = milliseconds(fold, [changed])
        assert size == slices * PER_SLICE
        times.append(spent)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", metavar="FILE", help="write the page to FILE as well")
    options = parser.parse_args()

    problems: list[Problem] = []
    one: list[KubeObject] = [service(), *(endpoint_slice(n) for n in range(SLICES))]
    names = [f"orders-{n}" for n in range(SLICES)]
    many: list[KubeObject] = [service(name) for name in names]
    many += [endpoint_slice(n, of=name) for n, name in enumerate(names)]
    orders = {
        "all of one Service, the Service first": (one, SLICES * PER_SLICE),
        "all of one Service, the Service last": (one[::-1], SLICES * PER_SLICE),
        f"all of {SLICES} Services, the Services first": (many, PER_SLICE),
    }
    cases: dict[str, list[float]] = {case: [] for case in orders}
    for _ in range(ROUNDS):
        for case, (objects, expected) in orders.items():
            spent, size = milliseconds(SliceFold(problems.append), objects)
            assert size == expected
            cases[case].append(spent)
    for slices in FLEETS:
        fold = SliceFold(problems.append)
        milliseconds(fold, one[: slices + 1])
        cases[f"one slice's change, of {slices * PER_SLICE:,} endpoints"] = changes(fold, slices)
    assert not problems

    targets = [TARGET_ALL_MS] * len(orders) + [TARGET_EVENT_MS] * len(FLEETS)
    rows = ["| what | median [ms] | lowest | highest | target |", "|---|---|---|---|---|"]
    for (case, times), target in zip(cases.items(), targets, strict=True):
        median = statistics.median(times)
        verdict = "reached" if median <= target else "missed"
        rows.append(
            f"| {case} | {median:.2f} | {min(times):.2f} | {max(times):.2f} "
            f"| ≤ {target:g}: {verdict} |"
        )
    publish(
        "Folding slices",
        f"CPU milliseconds, {SLICES} slices of {PER_SLICE} endpoints; "
        f"{ROUNDS} runs each. Addresses are checked once per process and remembered, so the "
        "first run of a process is the highest.\n\n" + "\n".join(rows),
        options.write,
        "msgspec",
    )


if __name__ == "__main__":
    main()
