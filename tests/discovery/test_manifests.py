"""Manifests on disk, really watched: as editors, kubelets and people change them."""

import asyncio
import contextlib
import json
import os
import shutil
import threading

import pytest
import yaml

from kube import endpoint, endpoint_slice, service
from trimtab.discovery import manifest_files
from trimtab.discovery.manifests import Manifests
from trimtab.errors import DiscoveryError
from trimtab.model import Removed, Snapshot, Synced, Updated

ORDERS = "orders.shop:8080"
WITHIN_S = 20


def text(*documents):
    return yaml.safe_dump_all(documents)


def put(path, *documents):
    """In one step, as careful programs do."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text(*documents))
    draft.replace(path)


def orders(*addresses):
    return service(), endpoint_slice("a", *addresses)


def pod(name, *, labels=None, weight=None):
    annotations = {} if weight is None else {"trimtab.dev/weight": weight}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"pod-{name}",
            "namespace": "shop",
            "uid": name,
            "labels": labels or {},
            "annotations": annotations,
        },
    }


class Reader:
    """Follows a source in the background."""

    def __init__(self, path, **options):
        self.problems = []
        self.clusters = {}
        self.removed = []
        self.smallest = None
        self.synced = asyncio.Event()
        self._source = Manifests(path, self.problems.append, **options)
        self._moved = asyncio.Event()

    async def follow(self):
        async with contextlib.aclosing(self._source.events()) as events:
            async for event in events:
                if isinstance(event, Synced):
                    self.synced.set()
                elif isinstance(event, Updated):
                    self.clusters[event.snapshot.cluster] = event.snapshot
                    size = len(event.snapshot.endpoints)
                    self.smallest = size if self.smallest is None else min(self.smallest, size)
                else:
                    assert isinstance(event, Removed)
                    del self.clusters[event.cluster]
                    self.removed.append(event.cluster)
                self._moved.set()

    def endpoints(self, cluster=ORDERS):
        return self.clusters.get(cluster, Snapshot(cluster)).endpoints

    def addresses(self, cluster=ORDERS):
        return [e.address for e in self.endpoints(cluster)]

    async def until(self, look, within=WITHIN_S):
        async with asyncio.timeout(within):
            while not look():
                self._moved.clear()
                with contextlib.suppress(TimeoutError):  # problems come without an event
                    await asyncio.wait_for(self._moved.wait(), 0.02)

    async def until_addresses(self, *addresses, cluster=ORDERS):
        await self.until(lambda: self.addresses(cluster) == list(addresses))

    async def until_problem(self, part):
        await self.until(lambda: any(part in str(p) for p in self.problems))

    async def settle(self):
        """Longer than a loss needs to be believed."""
        over = asyncio.Event()
        asyncio.get_running_loop().call_later(4 * manifest_files.GRACE_S, over.set)
        await over.wait()


@contextlib.asynccontextmanager
async def following(path, *, synced=True, **options):
    reader = Reader(path, **options)
    task = asyncio.create_task(reader.follow())
    try:
        if synced:
            await asyncio.wait_for(reader.synced.wait(), WITHIN_S)
        yield reader
    finally:
        if not task.done():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_change_arrives_in_milliseconds(tmp_path):
    put(tmp_path / "a.yaml", *orders("10.0.0.1"))
    loop = asyncio.get_running_loop()
    took = []
    async with following(tmp_path) as reader:
        for n in range(2, 9):
            begin = loop.time()
            put(tmp_path / "a.yaml", *orders(f"10.0.0.{n}"))
            await reader.until_addresses(f"10.0.0.{n}")
            took.append(loop.time() - begin)
    # The slow look, every 2 s, is not what brought them.
    assert sorted(took)[len(took) // 2] < 0.5


async def test_files_come_and_go(tmp_path):
    put(tmp_path / "a.yaml", *orders("10.0.0.1"))
    async with following(tmp_path) as reader:
        put(tmp_path / "b.yml", endpoint_slice("b", "10.0.0.2"))
        await reader.until_addresses("10.0.0.1", "10.0.0.2")
        (tmp_path / "c.json").write_text(json.dumps(endpoint_slice("c", "10.0.0.3")))
        await reader.until_addresses("10.0.0.1", "10.0.0.2", "10.0.0.3")
        (tmp_path / "b.yml").unlink()
        await reader.until_addresses("10.0.0.1", "10.0.0.3")
        (tmp_path / "a.yaml").unlink()
        await reader.until(lambda: reader.removed == [ORDERS])


async def test_objects_that_vanish_from_a_file_are_deleted(tmp_path):
    put(tmp_path / "a.yaml", *orders("10.0.0.1"), endpoint_slice("b", "10.0.0.2"))
    async with following(tmp_path) as reader:
        put(tmp_path / "a.yaml", *orders("10.0.0.1"))
        await reader.until_addresses("10.0.0.1")


async def test_a_relist_is_one_step_for_each_cluster(tmp_path):
    slices = [endpoint_slice(f"s{n}", f"10.0.0.{n}") for n in range(1, 60)]
    put(tmp_path / "a.yaml", service(), *slices)
    async with following(tmp_path) as reader:
        moved = [endpoint_slice(f"s{n}", f"10.0.0.{60 - n}", f"10.0.1.{n}") for n in range(1, 60)]
        put(tmp_path / "a.yaml", service(), *moved)
        await reader.until(lambda: len(reader.addresses()) == 118)
        assert reader.smallest == 59
        assert reader.removed == []


async def test_lists_are_read_and_other_kinds_passed_over(tmp_path):
    other = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}}
    put(
        tmp_path / "a.yaml",
        {"apiVersion": "v1", "kind": "List", "items": [*orders("10.0.0.1"), other]},
    )
    async with following(tmp_path) as reader:
        assert reader.addresses() == ["10.0.0.1"]
        assert reader.problems == []


async def test_hidden_files_other_names_and_sub_directories_are_passed_over(tmp_path):
    put(tmp_path / "a.yaml", *orders("10.0.0.1"))
    (tmp_path / ".hidden.yaml").write_text("{")
    (tmp_path / "notes.txt").write_text("{")
    (tmp_path / "more.yaml").mkdir()
    (tmp_path / "more.yaml" / "b.yaml").write_text("{")
    async with following(tmp_path) as reader:
        assert reader.addresses() == ["10.0.0.1"]
        assert reader.problems == []


async def test_the_symlink_swap_of_a_config_map_is_seen(tmp_path):
    def version(number, *addresses):
        made = tmp_path / f"..v{number}"
        made.mkdir()
        (made / "a.yaml").write_text(text(*orders(*addresses)))
        (tmp_path / "..data_tmp").symlink_to(made.name)
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")

    version(1, "10.0.0.1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    loop = asyncio.get_running_loop()
    async with following(tmp_path) as reader, following(tmp_path / "a.yaml") as of_file:
        for n in range(2, 6):
            begin = loop.time()
            version(n, f"10.0.0.{n}")
            await reader.until_addresses(f"10.0.0.{n}")
            await of_file.until_addresses(f"10.0.0.{n}")
            shutil.rmtree(tmp_path / f"..v{n - 1}")
            assert loop.time() - begin < 1.9  # by the watch, not by the slow look
        assert reader.removed == of_file.removed == []


async def test_a_directory_that_a_symlink_names_may_be_swapped(tmp_path):
    for n in (1, 2):
        (tmp_path / f"v{n}").mkdir()
        put(tmp_path / f"v{n}" / "a.yaml", *orders(f"10.0.0.{n}"))
    live = tmp_path / "live"
    live.symlink_to("v1")
    async with following(live) as reader:
        (tmp_path / "next").symlink_to("v2")
        (tmp_path / "next").replace(live)
        await reader.until_addresses("10.0.0.2")
        put(tmp_path / "v2" / "a.yaml", *orders("10.0.0.3"))
        await reader.until_addresses("10.0.0.3")
        assert reader.removed == []


async def test_a_directory_that_goes_leaves_its_last_state_in_use(tmp_path):
    path = tmp_path / "manifests"
    path.mkdir()
    put(path / "a.yaml", *orders("10.0.0.1"))
    async with following(path) as reader:
        path.rename(tmp_path / "elsewhere")
        await reader.until_problem("can't be read any more")
        await reader.settle()
        assert reader.addresses() == ["10.0.0.1"]
        path.mkdir()
        put(path / "a.yaml", *orders("10.0.0.2"))
        await reader.until_addresses("10.0.0.2")
        assert reader.removed == []
        loop = asyncio.get_running_loop()
        for n in range(3, 6):  # and it is watched again, not only looked at every 2 s
            begin = loop.time()
            put(path / "a.yaml", *orders(f"10.0.0.{n}"))
            await reader.until_addresses(f"10.0.0.{n}")
        assert loop.time() - begin < 1.9


async def test_a_directory_made_anew_takes_nothing_away_meanwhile(tmp_path):
    path = tmp_path / "manifests"
    path.mkdir()
    put(path / "a.yaml", *orders("10.0.0.1"))
    async with following(path) as reader:
        for n in range(2, 6):
            shutil.rmtree(path)
            path.mkdir()
            put(path / "a.yaml", *orders(f"10.0.0.{n}"))
            await reader.until_addresses(f"10.0.0.{n}")
        assert reader.removed == []


async def test_a_file_that_goes_leaves_its_last_state_in_use_if_it_is_the_path(tmp_path):
    path = tmp_path / "all.yaml"
    put(path, *orders("10.0.0.1"))
    async with following(path) as reader:
        path.unlink()
        await reader.until_problem("can't be read any more")
        await reader.settle()
        assert reader.addresses() == ["10.0.0.1"]
        put(path, *orders("10.0.0.2"))
        await reader.until_addresses("10.0.0.2")


async def test_files_written_in_place_never_take_anything_away_meanwhile(tmp_path):
    path = tmp_path / "a.yaml"
    slices = [endpoint_slice(f"s{n}", f"10.0.{n}.1") for n in range(50)]
    put(path, service(), *slices)
    async with following(tmp_path) as reader:

        def rewrite():
            for n in range(2, 12):
                body = text(service(), *slices, endpoint_slice("last", f"10.9.9.{n}"))
                with path.open("w") as stream:  # empty first, then in pieces
                    for at in range(0, len(body), 2_000):
                        stream.write(body[at : at + 2_000])
                        stream.flush()  # not to the disk: how long that takes is its own affair

        await asyncio.to_thread(rewrite)
        await reader.until(lambda: "10.9.9.11" in reader.addresses())
        assert reader.removed == []
        assert reader.smallest == 50
        assert reader.problems == []
        path.write_text(text(service()))  # what really went is believed
        await reader.until_addresses()


async def test_files_removed_and_written_anew_never_take_anything_away_meanwhile(tmp_path):
    path = tmp_path / "a.yaml"
    put(path, *orders("10.0.0.1"))
    async with following(tmp_path) as reader:

        def replace(n):
            path.unlink()
            threading.Event().wait(manifest_files.GRACE_S / 4)
            path.write_text(text(*orders(f"10.0.0.{n}")))

        for n in range(2, 8):
            await asyncio.to_thread(replace, n)
            await reader.until_addresses(f"10.0.0.{n}")
        assert reader.removed == []
        assert reader.smallest == 1


async def test_a_broken_file_keeps_its_last_good_state_and_others_go_on(tmp_path):
    put(tmp_path / "a.yaml", *orders("10.0.0.1"))
    put(tmp_path / "b.yaml", service("carts"))
    async with following(tmp_path) as reader:
        (tmp_path / "a.yaml").write_text("kind: Service\nspec: [\n")
        await reader.until_problem("last good state stays in use")
        (problem,) = reader.problems
        assert problem.where == f"{tmp_path / 'a.yaml'}:3"
        put(tmp_path / "b.yaml", service("carts"), endpoint_slice("c", "10.0.0.7", of="carts"))
        await reader.until_addresses("10.0.0.7", cluster="carts.shop:8080")
        assert reader.addresses() == ["10.0.0.1"]
        put(tmp_path / "a.yaml", *orders("10.0.0.2"))
        await reader.until_addresses("10.0.0.2")
        assert reader.removed == []
        assert len(reader.problems) == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            "a: &a [x, x]\n"
            + "".join(
                f"{'b' * n}: &{'b' * n} [{', '.join([('*' + ('b' * (n - 1) or 'a'))] * 9)}]\n"
                for n in range(1, 10)
            ),
            "aliases",
        ),
        ("[" * 100_000, "nested deeper"),
        ("a: 1\na: 2\n", "stands twice"),
        ("x" * 20_001, "split it"),
    ],
    ids=["bomb", "deep", "twice", "huge"],
)
async def test_what_breaks_a_limit_is_a_broken_file(tmp_path, body, reason):
    put(tmp_path / "a.yaml", *orders("10.0.0.1"))
    async with following(tmp_path, max_bytes=200_000 if body[0] == "[" else 20_000) as reader:
        (tmp_path / "a.yaml").write_text(body)
        await reader.until_problem(reason)
        assert reader.addresses() == ["10.0.0.1"]
        put(tmp_path / "a.yaml", *orders("10.0.0.2"))
        await reader.until_addresses("10.0.0.2")


async def test_a_dangling_symlink_and_a_pipe_are_broken_files_not_deletions(tmp_path):
    put(tmp_path / "a.yaml", *orders("10.0.0.1"))
    put(tmp_path / "b.yaml", endpoint_slice("b", "10.0.0.2"))
    async with following(tmp_path) as reader:
        (tmp_path / "link").symlink_to("nowhere")
        (tmp_path / "link").replace(tmp_path / "a.yaml")
        await reader.until_problem("a.yaml")
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "pipe").replace(tmp_path / "b.yaml")
        await reader.until_problem("no ordinary file")
        await reader.settle()
        assert reader.addresses() == ["10.0.0.1", "10.0.0.2"]


async def test_files_are_read_off_the_loop(tmp_path):
    # A large one takes seconds. What is wrong with a file is reported where it is read.
    (tmp_path / "a.yaml").write_text("kind: [")
    where = []
    source = Manifests(tmp_path, lambda _problem: where.append(threading.get_ident()))
    events = source.events()
    first = asyncio.create_task(anext(events))  # a broken file holds back the first sync
    async with asyncio.timeout(WITHIN_S):
        while not where:
            await asyncio.wait((first,), timeout=0.01)
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
        await first
    await events.aclose()
    assert threading.get_ident() not in where


async def test_an_object_in_two_files_is_taken_from_the_first_and_that_is_said(tmp_path):
    put(tmp_path / "b.yaml", service(), endpoint_slice("a", "10.0.0.2"))
    put(tmp_path / "c.yaml", endpoint_slice("a", "10.0.0.3"))
    async with following(tmp_path) as reader:
        assert reader.addresses() == ["10.0.0.2"]
        (problem,) = reader.problems
        assert problem.where == "EndpointSlice shop/a (c.yaml)"
        assert "b.yaml" in problem.fix
        put(tmp_path / "d.yaml", service("carts"))
        await reader.until(lambda: "carts.shop:8080" in reader.clusters)
        assert reader.problems == [problem]
        put(tmp_path / "a.yaml", endpoint_slice("a", "10.0.0.1"))
        await reader.until_addresses("10.0.0.1")
        (tmp_path / "a.yaml").unlink()
        (tmp_path / "b.yaml").write_text(text(service()))
        await reader.until_addresses("10.0.0.3")


async def test_an_object_twice_in_one_file_is_taken_once_and_that_is_said(tmp_path):
    put(tmp_path / "a.yaml", *orders("10.0.0.1"), endpoint_slice("a", "10.0.0.2"))
    async with following(tmp_path) as reader:
        assert reader.addresses() == ["10.0.0.1"]
        assert [p.where for p in reader.problems] == ["EndpointSlice shop/a (a.yaml, document 3)"]


async def test_slices_without_service_and_ports_without_match_are_said_once(tmp_path):
    put(tmp_path / "a.yaml", endpoint_slice("a", "10.0.0.1", ports=[("http", 1)]))
    async with following(tmp_path) as reader:
        await reader.until_problem("there is no Service shop/orders")
        put(tmp_path / "b.yaml", service("carts"))
        await reader.until(lambda: "carts.shop:8080" in reader.clusters)
        assert len(reader.problems) == 1
        put(tmp_path / "c.yaml", service())
        await reader.until_problem("has no TCP port of that name")
        assert len(reader.problems) == 2


async def test_an_empty_directory_is_a_synced_empty_source(tmp_path):
    async with following(tmp_path) as reader:
        assert reader.clusters == {}
        put(tmp_path / "a.yaml", *orders("10.0.0.1"))
        await reader.until_addresses("10.0.0.1")


async def test_a_path_that_is_not_there_is_an_error_with_a_fix(tmp_path):
    with pytest.raises(DiscoveryError, match="create it, or name another"):
        await anext(Manifests(tmp_path / "nowhere", lambda _: None).events())


async def test_a_path_that_is_neither_file_nor_directory_is_an_error(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DiscoveryError, match="neither a file nor a directory"):
        await anext(Manifests(tmp_path / "pipe", lambda _: None).events())


async def test_a_relative_path_is_watched(tmp_path):
    before = os.getcwd()  # noqa: PTH109 - restored below
    put(tmp_path / "a.yaml", *orders("10.0.0.1"))
    os.chdir(tmp_path)
    try:
        for path in (type(tmp_path)(), type(tmp_path)("a.yaml")):
            async with following(path) as reader:
                loop = asyncio.get_running_loop()
                begin = loop.time()
                put(tmp_path / "a.yaml", *orders("10.0.0.1", "10.0.0.2"))
                await reader.until_addresses("10.0.0.1", "10.0.0.2")
                assert loop.time() - begin < 1.9
                put(tmp_path / "a.yaml", *orders("10.0.0.1"))
                await reader.until_addresses("10.0.0.1")
    finally:
        os.chdir(before)


# What pods say


def asking(labels="shard", *names):
    asked = service(annotations={"trimtab.dev/endpoint-labels": labels})
    return asked, endpoint_slice("a", *(endpoint(f"10.0.0.{n}", uid=str(n)) for n in names))


async def test_labels_and_weights_of_pods_reach_the_endpoints_of_services_that_ask(tmp_path):
    def told(reader):
        return [(dict(e.labels), e.weight) for e in reader.endpoints()]

    put(tmp_path / "service.yaml", *asking("shard", 1, 2))
    pods = tmp_path / "pods.yaml"
    put(pods, pod("1", labels={"shard": "7", "app": "x"}, weight="5"), pod("2"))
    async with following(tmp_path) as reader:
        assert told(reader) == [({"shard": "7"}, 5), ({}, 1)]
        put(pods, pod("1", labels={"shard": "8"}), pod("2", labels={"shard": "9"}))
        await reader.until(lambda: told(reader) == [({"shard": "8"}, 1), ({"shard": "9"}, 1)])
        put(pods, pod("2", labels={"shard": "9", "app": "y"}))
        await reader.until(lambda: told(reader) == [({}, 1), ({"shard": "9"}, 1)])
        put(tmp_path / "service.yaml", *asking("app", 1, 2))
        await reader.until(lambda: told(reader) == [({}, 1), ({"app": "y"}, 1)])
        put(tmp_path / "service.yaml", service(), asking("", 1, 2)[1])
        await reader.until(lambda: told(reader) == [({}, 1), ({}, 1)])
        put(tmp_path / "service.yaml", *asking("app", 1, 2))
        await reader.until(lambda: told(reader) == [({}, 1), ({"app": "y"}, 1)])
        assert reader.problems == []


async def test_a_bad_weight_of_a_pod_is_named_if_its_service_asks(tmp_path):
    put(tmp_path / "service.yaml", *asking("shard", 1))
    put(tmp_path / "pods.yaml", pod("1", weight="heavy"))
    async with following(tmp_path) as reader:
        (problem,) = reader.problems
        assert problem.where == "Pod shop/pod-1"
        put(tmp_path / "service.yaml", service(), asking("", 1)[1])
        put(tmp_path / "pods.yaml", pod("1", weight="heavier"), pod("2", weight="heavy"))
        put(tmp_path / "more.yaml", service("other"))
        await reader.until(lambda: "other.shop:8080" in reader.clusters)
        assert len(reader.problems) == 1
