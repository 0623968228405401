"""A loop that stands still is measured and said, and costs nobody anything."""

import asyncio
import re
import threading

import pytest

from harness.deploy_tools import DEPLOY
from plane import QueueSource, RawClient, assignments, eventually, running, updated
from trimtab.control import metrics
from trimtab.control.loop_lag import BEAT_S, LoopLag
from trimtab.model import Synced
from trimtab.telemetry import Counters
from trimtab.xds import type_urls

BLOCKED_S = 1.7
ORDERS = "orders.shop:8080"


def measured(counters):
    """How often the loop was late by less than each bound, and the sum [s]."""
    (found,) = (v for m, v in counters.histograms() if m.name == metrics.LOOP_LAG)
    return found[()]


def lag():
    counters = Counters(metrics.METRICS)
    return LoopLag(counters, lambda: 0.0), counters


def test_how_late_it_is_is_counted_and_said_from_a_second_on(caplog):
    late, counters = lag()
    for seconds in (0.002, 0.3, 0.99):
        late.late(seconds)
    assert not caplog.text
    late.late(12.0)
    assert "stood still for 12.0 s" in caplog.text
    assert measured(counters).total == 0.002 + 0.3 + 0.99 + 12.0


def test_a_clock_of_little_resolution_makes_no_negative_lag():
    late, counters = lag()
    late.late(-0.001)
    assert measured(counters).total == 0.0


async def test_a_loop_that_is_blocked_is_measured_and_goes_on_where_it_was(caplog):
    source = QueueSource(updated("orders", 1), Synced())
    async with running(source) as plane, RawClient(plane.xds_address) as client:
        stream = client.sotw()
        await stream.hello(type_url=type_urls.EDS, resource_names=[ORDERS])
        first = await stream.read()
        await stream.ack(first, resource_names=[ORDERS])
        await eventually(lambda: sum(measured(plane.counters).counts) > 0)

        source.put(updated("orders", 1, 2))
        threading.Event().wait(BLOCKED_S)  # the loop itself, on purpose

        assert assignments(await stream.read()) == {ORDERS: [1, 2]}
        # The beat began at most BEAT_S before, so the loop came late by at least the rest.
        await eventually(lambda: measured(plane.counters).total >= BLOCKED_S - BEAT_S)
        assert "the event loop stood still" in caplog.text


async def test_a_client_that_reads_is_not_ended_while_the_loop_is_slower_than_a_write_may_be():
    source = QueueSource(updated("orders", 1), Synced())
    loop, slow = asyncio.get_running_loop(), True

    def hold():
        if slow:
            threading.Event().wait(0.1)  # the loop itself, on purpose
            loop.call_soon(hold)

    async with (
        running(source, write_deadline_s=0.05) as plane,
        RawClient(plane.xds_address) as client,
    ):
        stream = client.sotw()
        hold()
        await stream.hello(type_url=type_urls.EDS, resource_names=[ORDERS])
        for port in (1, 2, 3, 4):
            source.put(updated("orders", port))
            while assignments(read := await stream.read()) != {ORDERS: [port]}:
                pass
            await stream.ack(read, resource_names=[ORDERS])
        slow = False
        assert plane.counters.get(metrics.WRITE_DEADLINES) == 0


@pytest.mark.parametrize(
    "file", ["kubernetes/30-deployment.yaml", "helm/trimtab/templates/deployment.yaml"]
)
def test_a_liveness_probe_allows_a_minute_of_silence(file):
    # A template is no YAML before it is rendered; the probe's numbers are none of its values.
    _, probe = (DEPLOY / file).read_text().split("livenessProbe:")
    period, failures = (
        int(re.search(rf"{name}: (\d+)", probe)[1])
        for name in ("periodSeconds", "failureThreshold")
    )
    assert "path: /healthz" in probe
    assert period * failures >= 60
