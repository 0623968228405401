"""A start from the state file, and what becomes of it once the sources are heard."""

import asyncio
import contextlib

import pytest

from plane import QueueSource, eventually, snapshot, updated
from trimtab.control import metrics
from trimtab.control.authorization import Identity
from trimtab.control.last_known import LastKnown, StateOptions
from trimtab.control.state_file import State, StateError, read_state, write_state
from trimtab.control.store import Store
from trimtab.control.verdicts import Verdicts
from trimtab.discovery import Contact
from trimtab.discovery.addresses import endpoint_range
from trimtab.model import Endpoint, Removed, Snapshot, Synced
from trimtab.telemetry import Counters
from trimtab.xds.catalog import Catalog

ORDERS, USERS, BILLS = (f"{name}.shop:8080" for name in ("orders", "users", "bills"))


def saved(**ports):
    """Snapshots of the source s0 by Service."""
    found = [snapshot(name, *numbers) for name, numbers in ports.items()]
    return {"s0": {s.cluster: s for s in found}}


def new_store(**how):
    clock = asyncio.get_running_loop().time
    return Store(Catalog(), Counters(metrics.METRICS), clock=clock, **how)


@contextlib.asynccontextmanager
async def running(store, *sources):
    task = asyncio.create_task(store.run([(f"s{i}", s) for i, s in enumerate(sources)]))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def known(store):
    return {
        name: [e.port for e in found.endpoints] for name, found in store.catalog.clusters().items()
    }


def certain(store):
    return store.catalog.complete and all(source.certain for source in store.sources)


def on_trust(store, source="s0"):
    return store._counters.get(metrics.ON_TRUST, source)


async def test_clients_are_answered_from_memory_when_a_source_is_not_heard_in_time():
    store = new_store()
    store.remember(saved(orders=[1, 2]), 0.01)
    async with running(store, QueueSource()):
        await store.synced.wait()
        assert known(store) == {ORDERS: [1, 2]}
        assert on_trust(store) == 1
        assert not certain(store)
        # What nobody answers to may exist all the same.
        assert not store.catalog.complete


async def test_a_source_that_is_heard_in_time_needs_no_memory():
    store = new_store()
    store.remember(saved(orders=[1, 2]), 60.0)
    async with running(store, QueueSource(updated("orders", 3), Synced())):
        await store.synced.wait()
        assert known(store) == {ORDERS: [3]}
        assert certain(store)


async def test_news_take_the_place_of_memory_cluster_by_cluster():
    store = new_store()
    store.remember(saved(orders=[1], users=[2], bills=[3]), 0.01)
    source = QueueSource()
    async with running(store, source):
        await store.synced.wait()
        source.put(updated("orders", 9), Removed(USERS))
        await eventually(lambda: on_trust(store) == 1)
        assert known(store)[ORDERS] == [9]
        assert known(store).get(USERS, []) == []
        assert known(store)[BILLS] == [3]


async def test_a_few_clusters_that_the_source_does_not_know_any_more_go_at_once():
    store = new_store()
    store.remember(saved(orders=[1, 2, 3, 4, 5], users=[6]), 0.01)
    source = QueueSource()
    async with running(store, source):
        await store.synced.wait()
        source.put(updated("orders", 1, 2, 3, 4, 5), Synced())
        await eventually(lambda: known(store) == {ORDERS: [1, 2, 3, 4, 5]})
        assert certain(store)


@pytest.mark.parametrize("after_s", [0.0, 60.0], ids=["late", "at once"])
async def test_many_stay_for_a_while_although_the_source_says_that_it_is_complete(after_s, caplog):
    store = new_store(hold_s=0.1)
    store.remember(saved(orders=[1, 2], users=[3]), after_s)
    source = QueueSource()
    async with running(store, source):
        if not after_s:
            await store.synced.wait()
        source.put(Synced())
        await eventually(lambda: store.catalog.complete)
        assert known(store) == {ORDERS: [1, 2], USERS: [3]}
        assert "does not know 2 clusters with 3 of the 3 endpoints" in caplog.text
        source.put(updated("users", 4))
        await eventually(lambda: known(store) == {USERS: [4]})
        assert certain(store)


@pytest.mark.parametrize("after_s", [0.0, 60.0], ids=["late", "at once"])
async def test_a_cluster_of_five_that_the_source_does_not_know_stays_for_a_while_and_no_smaller_one(
    after_s, caplog
):
    store = new_store(hold_s=0.5)
    many = range(100, 150)
    store.remember(saved(orders=[1, 2, 3, 4, 5], users=[6, 7, 8, 9], bills=many), after_s)
    source = QueueSource()
    async with running(store, source):
        if not after_s:
            await store.synced.wait()
        source.put(updated("bills", *many), Synced())
        await eventually(lambda: store.catalog.complete)
        assert known(store) == {ORDERS: [1, 2, 3, 4, 5], BILLS: list(many)}
        assert "does not know 1 clusters with 5 of the 59 endpoints" in caplog.text
        await eventually(lambda: known(store) == {BILLS: list(many)})
        assert certain(store)


async def test_with_hold_down_off_a_source_is_believed():
    store = new_store(hold_s=0.0)
    store.remember(saved(orders=[1, 2]), 0.0)
    source = QueueSource()
    async with running(store, source):
        await store.synced.wait()
        source.put(Synced())
        await eventually(lambda: known(store) == {})


async def test_of_several_sources_only_the_silent_one_is_remembered():
    store = new_store()
    memory = saved(orders=[1])
    memory["s1"] = saved(orders=[2])["s0"]
    store.remember(memory, 0.05)
    async with running(store, QueueSource(updated("orders", 7), Synced()), QueueSource()):
        await eventually(lambda: known(store) == {ORDERS: [2, 7]})
        assert on_trust(store, "s0") == 0
        assert on_trust(store, "s1") == 1


async def test_what_nobody_confirmed_is_empty_for_clients_though_another_source_is_missing():
    store = new_store(hold_s=0.0)
    memory = saved(orders=[1, 2])
    memory["s1"] = saved(users=[3])["s0"]
    store.remember(memory, 0.01)
    one = QueueSource()
    async with running(store, one, QueueSource()):
        await store.synced.wait()
        one.put(Synced())
        # It stays known, without endpoints: whoever had them must not keep them.
        await eventually(lambda: known(store) == {ORDERS: [], USERS: [3]})


async def test_an_older_word_does_not_undo_what_is_held():
    store = new_store(hold_s=60.0)
    memory = {"s0": saved(orders=[9])["s0"], "s1": {}}
    store.remember(memory, 60.0)
    one, two = QueueSource(), QueueSource(updated("orders"))
    async with running(store, one, two):
        await eventually(lambda: store.sources and store.sources[1].snapshots)
        one.put(Synced())
        await eventually(lambda: on_trust(store) == 1)
        two.put(Synced())
        await store.synced.wait()
        assert known(store) == {ORDERS: [9]}


async def test_what_a_source_removed_before_it_was_synced_does_not_come_back():
    store = new_store(hold_s=60.0)
    store.remember(saved(orders=[1]), 60.0)
    async with running(store, QueueSource(updated("orders", 1), Removed(ORDERS), Synced())):
        await store.synced.wait()
        assert known(store) == {}
        assert certain(store)


async def test_memory_answers_for_a_source_that_it_knows_and_for_no_other():
    store = new_store()
    store.remember(saved(orders=[1]), 0.01)
    slow = QueueSource()
    async with running(store, QueueSource(updated("orders", 1), Synced()), slow):
        await eventually(lambda: store.sources and store.sources[0].synced)
        grace = asyncio.get_running_loop().time() + 0.1
        await eventually(lambda: asyncio.get_running_loop().time() > grace)
        assert not store.synced.is_set()


class Wall:
    now = 1000.0

    def __call__(self):
        return self.now


def keeper(store, path, wall, verdicts=None, audience="trimtab", ranges=()):
    verdicts = verdicts or new_verdicts(wall)
    options = StateOptions(path, 60.0, ranges=ranges)
    return LastKnown(options, store, verdicts, store._counters, audience=audience, wall=wall)


def new_verdicts(wall):
    return Verdicts(clock=asyncio.get_running_loop().time, wall=wall)


async def test_only_what_is_certain_is_written(tmp_path):
    store, path, wall = new_store(), tmp_path / "state", Wall()
    store.remember(saved(orders=[1, 2]), 0.01)
    source = QueueSource()
    kept = keeper(store, path, wall)
    async with running(store, source):
        await store.synced.wait()
        await kept.write()
        assert not path.exists()
        source.put(updated("orders", 1), Synced())
        await eventually(lambda: certain(store))
        await kept.write()
    assert read_state(path, 1000.0, 60.0).sources["s0"][ORDERS].endpoints[0].port == 1


async def test_an_unchanged_state_stays_young_while_the_source_can_be_read(tmp_path):
    store, path, wall = new_store(), tmp_path / "state", Wall()
    source = QueueSource(updated("orders", 1), Synced())
    kept = keeper(store, path, wall)
    async with running(store, source):
        await store.synced.wait()
        await kept.write()
        path.unlink()
        wall.now += 59
        await kept.write()
        assert not path.exists()
        wall.now += 1
        await kept.write()
        assert path.exists()
        path.unlink()
        source.standing = Contact(failing_since=1.0, reason="refused")
        wall.now += 600
        await kept.write()
        assert not path.exists()


async def test_a_file_that_can_t_be_written_or_read_stops_nothing(tmp_path, caplog):
    store, wall = new_store(), Wall()
    kept = keeper(store, tmp_path / "no" / "such" / "place", wall)
    assert kept.load() == {}
    async with running(store, QueueSource(updated("orders", 1), Synced())):
        await store.synced.wait()
        for _ in range(3):
            await kept.write()
    assert store._counters.get(metrics.STATE_WRITES, "failed") == 3
    assert caplog.text.count("can't be written") == 1
    (tmp_path / "bad").write_text("x")
    assert keeper(store, tmp_path / "bad", wall).load() == {}
    assert "the start goes on without it" in caplog.text


async def test_what_was_written_is_loaded(tmp_path):
    write_state(tmp_path / "state", State(saved(orders=[1])), 990.0)
    assert keeper(new_store(), tmp_path / "state", Wall()).load() == saved(orders=[1])


WEB = Identity("system:serviceaccount:shop:web", "shop", expires_at=2000.0)


async def test_tokens_are_kept_by_their_hash_and_believed_in_the_next_life_until_their_end(
    tmp_path,
):
    store, path, wall = new_store(), tmp_path / "state", Wall()
    verdicts = new_verdicts(wall)
    kept = keeper(store, path, wall, verdicts)
    async with running(store, QueueSource(updated("orders", 1), Synced())):
        await store.synced.wait()
        await kept.write()
        verdicts.note("f00d", WEB)  # news, though the sources say the same
        await kept.write()
    for audience, identity in (("trimtab", WEB), ("another", None)):
        later = new_verdicts(wall)
        keeper(new_store(), path, wall, later, audience).load()
        assert later.last_good("f00d") == identity
        assert later.fresh("f00d") is None
    wall.now = 1059.0
    late = new_verdicts(lambda: 2000.0)
    keeper(new_store(), path, wall, late).load()
    assert late.last_good("f00d") is None


async def test_tokens_are_written_while_a_source_is_away_and_make_its_state_no_younger(tmp_path):
    store, path, wall = new_store(), tmp_path / "state", Wall()
    verdicts = new_verdicts(wall)
    source = QueueSource(updated("orders", 1), Synced())
    kept = keeper(store, path, wall, verdicts)
    async with running(store, source):
        await store.synced.wait()
        await kept.write()
        source.standing = Contact(failing_since=1.0, reason="refused")
        verdicts.note("f00d", WEB)
        wall.now += 600
        await kept.write()
        assert [v.sha256 for v in read_state(path, wall.now, 600.0).verdicts] == ["f00d"]
        with pytest.raises(StateError, match="600 s old"):
            read_state(path, wall.now, 599.0)
        path.unlink()
        await kept.write()
        assert not path.exists()


async def test_a_source_that_was_never_heard_keeps_its_age_and_holds_up_no_other(tmp_path, caplog):
    path, wall = tmp_path / "state", Wall()
    memory = saved(orders=[1])
    memory["s1"] = saved(users=[2])["s0"]
    write_state(path, State(memory), 990.0)
    for now, ports in ((1000.0, 3), (1040.0, 4)):  # starts, one after the other
        store, wall.now = new_store(), now
        kept = keeper(store, path, wall)
        store.remember(kept.load(), 60.0)
        async with running(store, QueueSource(updated("orders", ports), Synced()), QueueSource()):
            await eventually(lambda: store.sources and store.sources[0].certain)  # noqa: B023
            await kept.write()
    found = read_state(path, 1040.0, 60.0).sources
    assert [e.port for e in found["s0"][ORDERS].endpoints] == [4]
    assert found["s1"] == memory["s1"]
    wall.now = 1060.0
    assert keeper(new_store(), path, wall).load().keys() == {"s0"}
    assert "what source s1 said is 70 s old, and more than 60 s is not believed" in caplog.text


async def test_changes_of_one_source_make_what_a_lost_one_said_no_younger(tmp_path):
    path, wall, store = tmp_path / "state", Wall(), new_store()
    kept = keeper(store, path, wall)
    one, two = (
        QueueSource(updated("orders", 1), Synced()),
        QueueSource(updated("users", 2), Synced()),
    )
    async with running(store, one, two):
        await store.synced.wait()
        await kept.write()
        two.standing = Contact(failing_since=1.0, reason="refused")
        for n in range(1, 8):
            wall.now += 10
            one.put(updated("orders", 1 + n))
            await eventually(lambda: known(store)[ORDERS] == [1 + n])  # noqa: B023
            await kept.write()
        assert keeper(new_store(), path, wall).load().keys() == {"s0"}
        wall.now += 60  # unchanged, the one that can be read stays young
        await kept.write()
        assert keeper(new_store(), path, wall).load().keys() == {"s0"}
        two.standing = Contact()
        await kept.write()
        wall.now += 60
        await kept.write()
        assert keeper(new_store(), path, wall).load().keys() == {"s0", "s1"}


async def test_a_clock_that_is_set_back_has_the_file_written_anew(tmp_path):
    store, path, wall = new_store(), tmp_path / "state", Wall()
    kept = keeper(store, path, wall)
    async with running(store, QueueSource(updated("orders", 1), Synced())):
        await store.synced.wait()
        await kept.write()
        wall.now -= 600
        await kept.write()
    assert read_state(path, wall.now, 60.0) is not None


def written(path, wall, **addresses):
    """A state file with these endpoints by Service."""
    snapshots = [
        Snapshot(f"{name}.shop:8080", tuple(Endpoint(address, 80) for address in theirs))
        for name, theirs in addresses.items()
    ]
    write_state(path, State({"s0": {s.cluster: s for s in snapshots}}), wall())


def loaded(kept):
    clusters = kept.load().get("s0", {})
    return {name: [e.address for e in one.endpoints] for name, one in clusters.items()}


async def test_what_the_ranges_do_not_allow_any_more_is_not_used_and_named(tmp_path, caplog):
    path, wall = tmp_path / "state", Wall()
    written(path, wall, orders=["10.0.0.1", "10.9.0.1", "fd00::1"], users=["10.9.0.2"], bills=[])
    ranges = tuple(map(endpoint_range, ("10.0.0.0/16", "fd00::/8")))
    kept = keeper(new_store(), path, wall, ranges=ranges)
    # What lost all that it had is unknown, and not told as empty.
    assert loaded(kept) == {ORDERS: ["10.0.0.1", "fd00::1"], BILLS: []}
    assert (
        f"state file {path}: 2 addresses are not used: 10.9.0.1 of {ORDERS}: it is in none of the "
        "ranges that --endpoint-range allows: 10.0.0.0/16, fd00::/8 (the first of them)"
    ) in caplog.text


async def test_a_pod_s_second_address_is_looked_at_as_well(tmp_path, caplog):
    path, wall = tmp_path / "state", Wall()
    pod = Endpoint("10.0.0.1", 80, additional_addresses=("fe80::1", "fd00::1"))
    write_state(path, State({"s0": {ORDERS: Snapshot(ORDERS, (pod,))}}), wall())
    found = keeper(new_store(), path, wall).load()["s0"][ORDERS].endpoints
    assert [(e.address, e.additional_addresses) for e in found] == [("10.0.0.1", ("fd00::1",))]
    assert f"1 addresses are not used: fe80::1 of {ORDERS}: a link-local address" in caplog.text


async def test_what_never_may_be_an_endpoint_is_not_taken_from_a_file_either(tmp_path):
    path, wall = tmp_path / "state", Wall()
    written(path, wall, orders=["127.0.0.1", "169.254.169.254", "10.0.0.1"])
    assert loaded(keeper(new_store(), path, wall)) == {ORDERS: ["10.0.0.1", "127.0.0.1"]}
