"""Many Services that come and go leave nothing behind. Row K22 of the fault matrix."""

import asyncio
import contextlib
import gc
import tracemalloc

from fake_api import FAST, Access, FakeApi
from fake_api.view import until
from kube import endpoint_slice, service
from trimtab.control.metrics import METRICS
from trimtab.control.store import Store
from trimtab.discovery.kubernetes.source import Kubernetes
from trimtab.telemetry import Counters
from trimtab.xds.catalog import Catalog

MANY = 300


@contextlib.asynccontextmanager
async def reading(api):
    """The store and the source that read it."""
    await api.start()
    problems = []
    source = Kubernetes(Access(api), problems.append, timing=FAST)
    store = Store(Catalog(), Counters(METRICS), clock=asyncio.get_running_loop().time)
    running = asyncio.create_task(store.run([("fake", source)]))
    try:
        await until(lambda: store.catalog.complete and api.watches == 2)
        yield store, source
        assert not problems
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await api.stop()


async def test_k22_services_that_were_made_and_deleted_leave_every_table_empty():
    api = FakeApi()
    async with reading(api) as (store, source):
        made = [service(f"s{n}") for n in range(MANY)]
        made += [endpoint_slice(f"s{n}", "10.0.0.1", of=f"s{n}") for n in range(MANY)]
        api.put(*made)
        await until(lambda: len(store.catalog.clusters()) == MANY)
        api.delete(*made)
        fold, (kept,) = source._fold, store.sources
        tables = {
            "services": lambda: fold._services,
            "clusters": lambda: fold._clusters,
            "slices": lambda: fold._slices,
            "slices by service": lambda: fold._by_service,
            "untold": lambda: source._untold,
            "known": lambda: [key for r in source._reflectors for key in r._books.known],
            "snapshots": lambda: kept.snapshots,
            "catalog": store.catalog.clusters,
            "moments": lambda: store.changed_at,
            "held": lambda: store._held_since,
            "windows": lambda: store._batching._windows,
        }

        def left():
            return {name: len(table()) for name, table in tables.items() if table()}

        await until(lambda: not left(), left)
        api.bookmark()
        await until(
            lambda: not any(r._books.deleted for r in source._reflectors), "deletions forgotten"
        )


def held():
    """Bytes that code of trimtab asked for and that somebody still has."""
    gc.collect()
    ours = tracemalloc.take_snapshot().filter_traces((tracemalloc.Filter(True, "*/trimtab/*"),))
    return sum(trace.size for trace in ours.traces)


async def test_k22_what_many_services_took_is_free_once_they_are_gone():
    api = FakeApi()
    async with reading(api) as (store, source):
        made = [service(f"s{n}") for n in range(MANY)]
        for n in range(MANY):
            pods = [f"10.{n // 256}.{n % 256}.{i}" for i in range(1, 21)]
            made.append(endpoint_slice(f"s{n}", *pods, of=f"s{n}"))
        tracemalloc.start()
        try:
            before = held()
            api.put(*made)
            await until(
                lambda: [len(s.endpoints) for s in store.catalog.clusters().values()] == [20] * MANY
            )
            full = held()
            api.delete(*made)
            await until(lambda: not store.catalog.clusters())
            api.bookmark()
            await until(lambda: not any(r._books.deleted for r in source._reflectors))
            await until(lambda: not store._batching._windows)
            # What is left are the names of the deleted Services, 10,000 at most; what a busy machine has on its
            # way still may be there for a while.
            await until(lambda: held() - before < 0.1 * (full - before), lambda: held() - before)
        finally:
            tracemalloc.stop()
