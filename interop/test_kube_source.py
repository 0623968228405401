"""The Kubernetes source in this process, with waits of its own choice, on a real API server."""

import asyncio
import contextlib
import threading

import aiohttp
import pytest

from harness.waiting import Unmet, eventually
from trimtab.discovery.kubernetes import kubeconfig, metrics
from trimtab.discovery.kubernetes.api import Api, Target
from trimtab.discovery.kubernetes.source import Kubernetes
from trimtab.discovery.kubernetes.timing import Timing
from trimtab.discovery.kubernetes.wire import SLICES
from trimtab.model import Removed, Updated
from trimtab.telemetry import Counters

pytestmark = pytest.mark.processes

_GOODBYE_S = 0.5


@contextlib.asynccontextmanager
async def reading(cluster, space, **timing):
    """A running source over the test's namespace.

    Yields:
        The source, its counters, and the snapshots by cluster.
    """
    counters = Counters(metrics.METRICS)
    problems = []
    source = Kubernetes(
        kubeconfig.load(cluster.kubeconfig),
        problems.append,
        namespaces=[space.name],
        counters=counters,
        timing=Timing(**timing),
    )
    snapshots = {}

    async def read():
        async for event in source.events():
            if isinstance(event, Updated):
                snapshots[event.snapshot.cluster] = event.snapshot
            elif isinstance(event, Removed):
                del snapshots[event.cluster]

    task = asyncio.create_task(read())
    try:
        yield source, counters, snapshots
        assert not task.done() or task.result()
        assert not problems
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        # TLS connections say goodbye after the session has closed them, and the loop ends with the test.
        await asyncio.to_thread(threading.Event().wait, _GOODBYE_S)


async def until(look, within, what):
    """``eventually`` beside a running loop."""
    await asyncio.to_thread(eventually, look, within=within, what=what)


def total(counters, metric):
    return sum(value for m, values in counters if m.name == metric for value in values.values())


async def test_the_consistency_check_finds_nothing_wrong_while_everything_changes(cluster, space):
    await asyncio.to_thread(space.service)
    async with reading(cluster, space, check_s=0.1) as (_, counters, snapshots):
        pods = await asyncio.to_thread(space.open, *(f"p{n}" for n in range(20)))
        for pod in pods[::2]:
            await asyncio.to_thread(space.remove, pod)

        def look():
            known = snapshots.get(space.cluster())
            return len(known.endpoints) == 10 or Unmet(f"{known}")

        await until(look, 10, "ten endpoints are left")
        await until(lambda: total(counters, metrics.CHECKS) >= 20, 20, "twenty comparisons")
        assert total(counters, metrics.REPAIRS) == 0


async def test_a_comparison_tells_what_a_list_tells_in_a_part_of_its_bytes(cluster, space):
    addresses = [f"10.1.0.{n}" for n in range(1, 101)]
    for name in ("x", "y"):
        await asyncio.to_thread(space.slice, name, addresses, of="orders")
    read = 0

    async def on_chunk(_session, _context, params):
        nonlocal read
        read += len(params.chunk)

    trace = aiohttp.TraceConfig()
    trace.on_response_chunk_received.append(on_chunk)
    async with aiohttp.ClientSession(trace_configs=[trace]) as session:
        access = kubeconfig.load(cluster.kubeconfig)
        api = Api(access, session, Timing(page_size=1), lambda: 0.0)

        async def listed(**how):
            """The list's version, what is in it, and the bytes that it took."""
            nonlocal read
            read = 0
            pages = [page async for page in api.pages(Target(SLICES, space.name), **how)]
            return pages[0].version, [page.seen for page in pages], read

        version, whole, bytes_of_whole = await listed()
        _, heads, bytes_of_heads = await listed(exactly=version, heads=True)
    assert heads == whole
    assert sum(map(len, heads)) == 2
    assert bytes_of_heads < bytes_of_whole / 5


async def test_a_frozen_api_server_is_noticed_and_followed_again_when_it_thaws(cluster, space):
    await asyncio.to_thread(space.service)
    short = {"connect_s": 1, "list_s": 1, "watch_s": (1, 2), "idle_extra_s": 1}
    async with reading(cluster, space, **short) as (source, _, snapshots):
        await until(lambda: space.cluster() in snapshots, 10, "the Service is known")
        cluster.api.freeze()
        try:
            await until(lambda: source.contact().failing_since is not None, 10, "it is noticed")
            assert source.contact().reason
            assert space.cluster() in snapshots
        finally:
            cluster.api.thaw()
        await asyncio.to_thread(space.open, "a")
        await until(lambda: snapshots[space.cluster()].endpoints, 20, "the change arrives")
        await until(lambda: source.contact().failing_since is None, 10, "all is well")


async def test_what_pods_say_of_themselves_is_told_where_the_service_asks(cluster, space):
    space.service(annotations={"trimtab.dev/endpoint-labels": "app"})
    (pod,) = await asyncio.to_thread(space.open, "a")
    admin = cluster.api.admin
    running = {"running": {"startedAt": "2026-11-01T10:00:00Z"}}
    container = {"name": "server", "image": "x", "imageID": "", "ready": True, "restartCount": 0}
    status = {"status": {"containerStatuses": [container | {"state": running}]}}
    async with reading(cluster, space) as (_, _, snapshots):

        def told():
            found = snapshots.get(space.cluster())
            return [(e.labels, e.weight, e.ready_since) for e in found.endpoints] if found else []

        labels = (("app", "orders"),)
        await until(lambda: told() == [(labels, 1, None)] or Unmet(f"{told()}"), 10, "the label")
        await asyncio.to_thread(admin.merge, pod.document, status, subresource="status")
        started = (labels, 1, 1793527200.0)
        await until(lambda: told() == [started] or Unmet(f"{told()}"), 10, "the start time")
        annotated = {"metadata": {"annotations": {"trimtab.dev/weight": "4"}}}
        await asyncio.to_thread(admin.merge, pod.document, annotated)
        heavy = (labels, 4, 1793527200.0)
        await until(lambda: told() == [heavy] or Unmet(f"{told()}"), 10, "the weight")
