import asyncio
import contextlib
from dataclasses import replace

import pytest

from plane import QueueSource, eventually, snapshot, updated
from trimtab.control import metrics
from trimtab.control.batching import Batching
from trimtab.control.problems import MAX_PROBLEMS, Problems
from trimtab.control.store import Store
from trimtab.discovery import Contact
from trimtab.errors import DiscoveryError
from trimtab.model import Endpoint, Health, Problem, Removed, Synced, Updated
from trimtab.telemetry import Counters
from trimtab.xds.catalog import Catalog


class Ear:
    """Hears of changes and says whether they concern it."""

    def __init__(self, *, concerned=True):
        self.heard = []
        self.concerned = concerned

    def changed(self, clusters, since):
        self.heard.append((sorted(clusters), since))
        return self.concerned

    @property
    def names(self):
        return [names for names, _ in self.heard]


def new_store(**how):
    clock = asyncio.get_running_loop().time
    return Store(Catalog(), Counters(metrics.METRICS), clock=clock, **how)


@contextlib.asynccontextmanager
async def following(store, *sources):
    task = asyncio.create_task(store.run([(f"s{i}", s) for i, s in enumerate(sources)]))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_nobody_hears_anything_before_all_sources_have_synced():
    store, ear = new_store(), Ear()
    store.listen(ear)
    one, two = QueueSource(updated("orders", 1), Synced()), QueueSource(updated("users", 2))
    async with following(store, one, two):
        await eventually(lambda: len(store.catalog.clusters()) == 2)
        assert store.waiting_for() == ("s1",)
        assert not store.catalog.synced
        assert ear.heard == []
        two.put(Synced())
        await store.synced.wait()
        assert store.catalog.synced
        assert ear.names == [["orders.shop:8080", "users.shop:8080"]]


async def test_a_change_of_a_quiet_cluster_is_told_at_once_and_equal_content_never():
    store, ear = new_store(), Ear()
    store.listen(ear)
    source = QueueSource(Synced())
    async with following(store, source):
        await store.synced.wait()
        ear.heard.clear()
        source.put(updated("orders", 1), updated("orders", 1), updated("users", 1))
        await eventually(lambda: len(ear.heard) == 2)
    assert ear.names == [["orders.shop:8080"], ["users.shop:8080"]]


async def test_churn_of_a_cluster_is_told_once_per_window_with_the_time_of_its_first_change():
    store, ear = new_store(batching=Batching(first_s=0.05)), Ear()
    store.listen(ear)
    source = QueueSource(Synced())
    async with following(store, source):
        await store.synced.wait()
        ear.heard.clear()
        source.put(*(updated("orders", port) for port in range(1, 20)))
        await eventually(lambda: len(ear.heard) == 2)
    told_at_once, told_later = ear.heard
    assert told_at_once[0] == told_later[0] == ["orders.shop:8080"]
    assert 0 <= told_later[1] - told_at_once[1] < 0.04
    assert [e.port for e in store.catalog.clusters()["orders.shop:8080"].endpoints] == [19]


async def test_a_removed_cluster_is_told_and_gone():
    store, ear = new_store(), Ear()
    store.listen(ear)
    source = QueueSource(updated("orders", 1), Synced())
    async with following(store, source):
        await store.synced.wait()
        source.put(Removed("orders.shop:8080"))
        await eventually(lambda: len(ear.heard) == 2)
    assert store.catalog.clusters() == {}
    assert store.changed_at == {}


async def test_a_listener_that_left_hears_nothing():
    store, ear = new_store(), Ear()
    store.listen(ear)
    store.forget(ear)
    async with following(store, QueueSource(updated("orders", 1), Synced())):
        await store.synced.wait()
    assert ear.heard == []


async def test_of_two_sources_the_first_decides_and_the_second_takes_over_when_it_lets_go():
    store = new_store()
    first, second = QueueSource(Synced()), QueueSource(updated("orders", 2), Synced())
    async with following(store, first, second):
        await store.synced.wait()
        first.put(updated("orders", 1))
        await eventually(
            lambda: store.catalog.clusters()["orders.shop:8080"].endpoints[0].port == 1
        )
        second.put(updated("orders", 3))
        first.put(Removed("orders.shop:8080"))
        await eventually(
            lambda: store.catalog.clusters()["orders.shop:8080"].endpoints[0].port == 3
        )


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (DiscoveryError("disk is gone"), "source s0 failed: disk is gone"),
        (ValueError("bug"), "source s0 failed unexpectedly: ValueError: bug"),
        (None, "source s0 ended"),
    ],
)
async def test_a_source_that_ends_ends_the_store_with_its_name_and_reason(end, text):
    source = QueueSource(Synced(), end)
    with pytest.raises(DiscoveryError, match=text):
        await asyncio.wait_for(new_store().run([("s0", source), ("s1", QueueSource())]), 5)


async def test_problems_are_kept_by_object_and_field_and_logged_once(caplog):
    store = new_store()
    report = store.report("manifests")
    bad = Problem("EndpointSlice shop/a", "ports[0].port", "70000", "use 1 to 65535")
    for _ in range(3):
        await asyncio.to_thread(report, bad)
    await eventually(lambda: [(s.problem, s.times) for s in store.problems] == [(bad, 3)])
    assert store._counters.get(metrics.PROBLEMS, "manifests") == 3
    (line,) = (r.getMessage() for r in caplog.records if "70000" in r.getMessage())
    # What is used in its place the problem says itself: not always what was there before.
    assert line.endswith(f": rejected: {bad}")


async def test_gauges_count_clusters_and_endpoints_by_health():
    store = new_store()
    source = QueueSource(
        updated("orders", 1, 2),
        updated("users", 3, health=Health.UNHEALTHY),
        Synced(),
    )
    async with following(store, source):
        await store.synced.wait()
        store.measure()
    counters = store._counters
    assert counters.get(metrics.CLUSTERS) == 2
    assert counters.get(metrics.EMPTY_CLUSTERS) == 1
    assert counters.get(metrics.ENDPOINTS, "ready") == 2
    assert counters.get(metrics.ENDPOINTS, "unhealthy") == 1
    assert counters.get(metrics.SOURCE_SYNCED, "s0") == 1
    assert counters.get(metrics.CHANGES) == 2


def test_the_snapshot_of_these_tests_is_known_by_its_service():
    assert snapshot("orders", 1).service.cluster == "orders.shop:8080"


def test_the_latest_problem_stands_first_and_the_oldest_makes_room():
    problems = Problems()
    for i in range(MAX_PROBLEMS + 5):
        problems.report("m", Problem(f"Service shop/s{i}", "", "", "fix it"), float(i))
    problems.report("m", Problem("Service shop/s7", "", "", "fix it"), 999.0)
    assert len(problems) == MAX_PROBLEMS
    first, second, *_ = problems
    assert (first.problem.where, first.times) == ("Service shop/s7", 2)
    assert second.problem.where == f"Service shop/s{MAX_PROBLEMS + 4}"


EAST, WEST = snapshot("orders", 1), snapshot("orders", 2)


def ports(store, cluster="orders.shop:8080"):
    found = store.catalog.clusters().get(cluster)
    return None if found is None else sorted(e.port for e in found.endpoints)


async def test_a_service_in_two_clusters_has_the_endpoints_of_both():
    store = new_store()
    east, west = QueueSource(Updated(EAST), Synced()), QueueSource(Updated(WEST), Synced())
    async with following(store, east, west):
        await store.synced.wait()
        assert ports(store) == [1, 2]
        west.put(Removed("orders.shop:8080"))
        await eventually(lambda: ports(store) == [1])
        east.put(Removed("orders.shop:8080"))
        await eventually(lambda: ports(store) is None)


async def test_one_lost_cluster_does_not_block_the_others_for_longer_than_the_patience():
    store = new_store(patience_s=0.01)
    east, lost = QueueSource(Updated(EAST), Synced()), QueueSource()
    lost.standing = Contact(None, 0.0, "connection refused")
    async with following(store, east, lost):
        await store.synced.wait()
        assert store.catalog.synced
        assert not store.catalog.complete
        assert ports(store) == [1]
        assert store.waiting_for() == ("s1",)
        lost.put(Updated(WEST), Synced())
        await eventually(lambda: store.catalog.complete)
        assert ports(store) == [1, 2]


async def test_the_only_cluster_is_waited_for_without_end():
    store = new_store(patience_s=0.0)
    lost = QueueSource(Updated(EAST))
    async with following(store, lost):
        await eventually(lambda: ports(store) == [1])
        assert not store.synced.is_set()


async def test_while_a_cluster_is_missing_a_deleted_service_is_empty_and_not_absent():
    store = new_store(patience_s=0.0)
    east, lost = QueueSource(Updated(EAST), Synced()), QueueSource()
    async with following(store, east, lost):
        await store.synced.wait()
        east.put(Removed("orders.shop:8080"))
        await eventually(lambda: ports(store) == [])
        lost.put(Synced())
        await eventually(lambda: ports(store) is None)


@pytest.mark.parametrize("endpoints", [(), (Endpoint("10.0.0.1", 1, health=Health.UNHEALTHY),)])
async def test_what_a_cluster_had_it_can_take_back_though_another_is_missing(endpoints):
    store = new_store(patience_s=0.0)
    worse = replace(EAST, endpoints=endpoints)
    east, lost = QueueSource(Updated(EAST), Synced()), QueueSource()
    async with following(store, east, lost):
        await store.synced.wait()
        assert ports(store) == [1]
        east.put(Updated(worse))
        await eventually(lambda: store.catalog.clusters()["orders.shop:8080"] == worse)
        east.put(Updated(EAST))
        await eventually(lambda: ports(store) == [1])


async def test_while_a_cluster_is_missing_a_service_that_had_nothing_is_not_told_as_empty():
    store = new_store(patience_s=0.0)
    nothing = replace(EAST, endpoints=())
    east, lost = QueueSource(Updated(nothing), Synced()), QueueSource()
    async with following(store, east, lost):
        await store.synced.wait()
        assert ports(store) is None
        lost.put(Updated(WEST), Synced())
        await eventually(lambda: ports(store) == [2])


@pytest.mark.parametrize(
    "gone", [Removed("orders.shop:8080"), Updated(replace(EAST, endpoints=()))]
)
async def test_what_went_before_clients_were_answered_is_unknown_while_a_cluster_is_missing(gone):
    store = new_store(patience_s=0.0)
    east, lost = QueueSource(Updated(EAST), gone, Synced()), QueueSource()
    async with following(store, east, lost):
        await store.synced.wait()
        assert ports(store) is None
        lost.put(Updated(WEST), Synced())
        await eventually(lambda: ports(store) == [2])


async def test_a_service_that_is_empty_everywhere_is_told_so_once_all_is_known():
    store = new_store(patience_s=0.0)
    nothing = replace(EAST, endpoints=())
    east, lost = QueueSource(Updated(nothing), Synced()), QueueSource()
    async with following(store, east, lost):
        await store.synced.wait()
        lost.put(Synced())
        await eventually(lambda: ports(store) == [])


async def test_how_a_source_stands_is_measured():
    store = new_store()
    source = QueueSource(Synced())
    now = asyncio.get_running_loop().time()
    source.standing = Contact(now - 60, now - 50, "connection refused")
    async with following(store, source):
        await store.synced.wait()
        store.measure()
        counters = store._counters
        assert counters.get(metrics.FAILING, "s0") == 1
        assert counters.get(metrics.CONTACT_AGE, "s0") >= 60
        source.standing = Contact(now, None, "")
        store.measure()
        assert counters.get(metrics.FAILING, "s0") == 0
