"""What telemetry costs a call: the same channel with and without an exporter, in the same run.

One server process on one core, this process on another. Blocks of calls through each channel
alternate in shuffled order; each block's processor time is divided by that of the channel without an
exporter in the same round. The second channel without one is the control: what its ratio is off 1 is noise.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import prometheus_client
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

import trimtab
import trimtab.aio
import trimtab.otel
import trimtab.prometheus
from client_cpu import BATCH, METHOD, PAYLOAD, PORTS, connected
from machine import publish
from telemetry_looks import Traced

ABSENT, ABSENT_2 = "no exporter", "no exporter again (control)"
PROMETHEUS, METRICS, SPANS = "prometheus", "otel, metrics", "otel, metrics and spans"
CASES = (ABSENT, ABSENT_2, PROMETHEUS, METRICS, SPANS)


def _nothing() -> Callable[[], None]:
    return lambda: None


def installers() -> dict[str, Callable[[], Callable[[], None]]]:
    """By case, what installs it and returns what takes it away."""

    def meters() -> MeterProvider:
        return MeterProvider([InMemoryMetricReader()])

    return {
        ABSENT: _nothing,
        ABSENT_2: _nothing,
        PROMETHEUS: lambda: trimtab.prometheus.install(prometheus_client.CollectorRegistry()),
        METRICS: lambda: trimtab.otel.install(meters(), spans=False),
        SPANS: lambda: trimtab.otel.install(meters(), TracerProvider()),
    }


def channels(module: Any, targets: list[str]) -> dict[str, Any]:
    """A channel takes the exporters that are there when it is made."""
    made = {}
    for case, install in installers().items():
        remove = install()
        made[case] = module.insecure_channel("bench.shop:80", endpoints=targets)
        remove()
    return made


async def measure(module: Any, ports: list[int], rounds: int) -> dict[str, list[float]]:
    """Microseconds of processor time per call, by case, one figure per round."""
    made = channels(module, [f"127.0.0.1:{port}" for port in ports[:PORTS]])
    for channel in made.values():
        await connected(channel)
    stubs = {case: channel.unary_unary(METHOD) for case, channel in made.items()}
    aio = module is trimtab.aio

    async def block(stub: Any) -> None:
        if aio:
            await asyncio.gather(*(stub(PAYLOAD) for _ in range(BATCH)))
        else:
            for _ in range(BATCH):
                stub(PAYLOAD)

    found: dict[str, list[float]] = {case: [] for case in CASES}
    order, shuffle = list(CASES), Random(5)
    for case in CASES * 10:
        await block(stubs[case])
    gc.collect()
    gc.freeze()
    for _ in range(rounds):
        shuffle.shuffle(order)
        for case in order:
            begin = time.process_time_ns()
            await block(stubs[case])
            found[case].append((time.process_time_ns() - begin) / 1e3 / BATCH)
    gc.unfreeze()
    for channel in made.values():
        if aio:
            await channel.close()
        else:
            channel.close()
    return found


def table(found: dict[str, list[float]]) -> str:
    rows = [
        "| exporter | µs per call, median | µs more than without, median | ratio, median |",
        "|---|---|---|---|",
    ]
    for case in CASES:
        pairs = list(zip(found[case], found[ABSENT], strict=True))
        more = statistics.median(a - b for a, b in pairs)
        ratio = statistics.median(a / b for a, b in pairs)
        rows.append(
            f"| {case} | {statistics.median(found[case]):.1f} | {more:+.1f} | {ratio:.3f} |"
        )
    return "\n".join(rows)


async def looks(module: Any, ports: list[int]) -> str:
    """What a call through a channel without an exporter does for telemetry, found in it and timed."""
    channel = module.insecure_channel("bench.shop:80", endpoints=[f"127.0.0.1:{ports[0]}"])
    await connected(channel)
    stub = channel.unary_unary(METHOD)
    with Traced() as traced:
        answer = stub(PAYLOAD)
        if module is trimtab.aio:
            await answer
    found = traced.looks()
    assert found, (
        "nothing on the way of a call reads who watches: telemetry_looks goes by other names"
    )
    closing = channel.close()
    if module is trimtab.aio:
        await closing
    lines = "; ".join(f"`{look.text}`" for look in found)
    return f"{sum(look.ns() for look in found):.0f} ns ({lines})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", metavar="FILE", help="write the page to FILE as well")
    parser.add_argument("--quick", action="store_true", help="few rounds, to see that it runs")
    options = parser.parse_args()
    rounds = 20 if options.quick else 400
    cores = sorted(os.sched_getaffinity(0))
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("client_cpu.py")), "--serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert server.stdout is not None
        ports = json.loads(server.stdout.readline())
        os.sched_setaffinity(0, {cores[0]})
        aio = table(asyncio.run(measure(trimtab.aio, ports, rounds)))
        sync = table(asyncio.run(measure(trimtab, ports, rounds)))
        aio_looks = asyncio.run(looks(trimtab.aio, ports))
        sync_looks = asyncio.run(looks(trimtab, ports))
    finally:
        server.communicate()
    publish(
        "What telemetry costs a call",
        f"Processor time of the whole client process per call of {len(PAYLOAD)} bytes over {PORTS} "
        f"endpoints, on one core; the server on another. Differences and ratios are within a round.\n\n"
        "A channel without an exporter looks whether there is one. All lines that a call ran and that look are found in "
        "trimtab itself and timed as they stand there (target: at most 50 ns per call): asyncio "
        f"{aio_looks}, threads {sync_looks}.\n\n"
        f"## asyncio, {BATCH} calls at once, {rounds} rounds\n\n{aio}\n\n"
        f"## threads, one call after the other, {rounds} rounds of {BATCH}\n\n{sync}\n\n"
        "With `otel` the SDK is OpenTelemetry's own, its spans are made and exported to nobody: the "
        "time is that of its API and SDK.",
        options.write,
        "grpcio",
        "prometheus-client",
        "opentelemetry-sdk",
    )


if __name__ == "__main__":
    main()
