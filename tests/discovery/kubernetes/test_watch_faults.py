"""What ends or spoils a watch. Rows K of the fault matrix."""

import asyncio
import json

import pytest
from aiohttp import web

from fake_api import viewing
from fake_api.server import GONE
from fake_api.view import until
from kube import endpoint_slice, service
from trimtab.discovery.kubernetes import metrics
from trimtab.model import Removed

BOTH = ["10.0.0.1", "10.0.0.2"]


async def test_everything_is_told_before_synced_and_changes_follow(api):
    async with viewing(api) as view:
        assert view.addresses() == BOTH
        api.put(endpoint_slice("c", "10.0.0.3"))
        await until(lambda: view.addresses() == [*BOTH, "10.0.0.3"])
        api.delete(endpoint_slice("a"))
        await until(lambda: view.addresses() == ["10.0.0.2", "10.0.0.3"])
        api.delete(service())
        await until(lambda: not view.clusters)
    assert api.count("list") == 2


async def test_k1_watches_that_end_all_the_time_lose_nothing_and_cost_no_list(api):
    async with viewing(api) as view:
        for n in range(200):
            api.put(endpoint_slice(f"n{n % 5}", f"10.0.1.{n + 1}"))
            api.end_watches()
            if n % 10 == 0:
                await until(lambda: api.watches == 2, "watching again")
        last = [f"10.0.1.{n}" for n in range(196, 201)]
        await until(lambda: view.addresses() == [*BOTH, *last], "all changes")
    assert api.count("list") == 2


@pytest.mark.parametrize("form", ["status", "event", "silent"])
async def test_k2_what_was_deleted_in_a_gap_goes_and_nothing_else_is_touched(api, form):
    api.gone_inside, api.silent_gone = form == "event", form == "silent"
    api.put(service("users"), endpoint_slice("u", "10.0.5.1", of="users"))
    async with viewing(api) as view:
        api.forget(endpoint_slice("b"), service("users"))
        told = len(view.told)
        api.cut_watches()
        await until(lambda: view.addresses() == ["10.0.0.1"], "the deletion")
        await until(lambda: "users.shop:8080" not in view.clusters, "the Service's deletion")
        await until(lambda: api.watches == 2, "watching again")
        events = view.told[told:]
        assert sum(isinstance(e, Removed) for e in events) == 1
        assert len(events) == 2
    assert api.count("list") == 4


async def test_k3_a_watch_that_falls_silent_is_given_up_and_read_on(api):
    timing = {"watch_s": (1.0, 1.0), "idle_extra_s": 0.0, "bookmark_idle_s": 0.1}
    async with viewing(api, timing=timing) as view:
        await until(lambda: api.watches == 2)
        api.bookmark()
        await until(lambda: view.counters.get(metrics.FAILURES, "fake", "silent") >= 2, "noticed")
        api.put(endpoint_slice("c", "10.0.0.3"))
        await until(lambda: len(view.addresses()) == 3, "read on")
    assert api.count("list") == 2


async def test_watches_that_open_and_fail_at_once_never_pass_for_contact(api):
    async with viewing(api) as view:
        await until(lambda: api.watches == 2)

        async def open_and_break(request):
            response = web.StreamResponse()
            await response.prepare(request)
            request.transport.abort()
            return response

        api.fail("watch", 20, act=open_and_break)
        api.cut_watches()
        await until(lambda: view.source.contact().failing_since is not None)
        first = view.source.contact()

        def broken():
            contact = view.source.contact()
            assert contact.failing_since == first.failing_since
            assert contact.heard == first.heard
            return view.counters.get(metrics.FAILURES, "fake", "connection") >= 12

        await until(broken)
        await until(lambda: view.source.contact().failing_since is None, "a watch that lasts")
    assert api.count("list") == 2


async def test_k4_a_watch_without_bookmarks_may_be_silent_for_its_whole_time(api):
    timing = {"bookmark_idle_s": 0.001}
    async with viewing(api, timing=timing) as view:
        await until(lambda: api.watches == 2)
        api.put(endpoint_slice("c", "10.0.0.3"))
        await until(lambda: len(view.addresses()) == 3)
        assert view.counters.get(metrics.FAILURES, "fake", "silent") == 0


@pytest.mark.parametrize("cut", [1, 30, 57, 200])
async def test_k19_a_line_cut_anywhere_is_read_again(api, cut):
    line = (
        '{"type":"MODIFIED","object":{"metadata":{"name":"ä","namespace":"shöp"},"x":"'
        + "ü" * 200
        + '"}}\n'
    ).encode()
    async with viewing(api) as view:
        await until(lambda: api.watches == 2)
        api.say(line[:cut])
        api.end_watches()
        api.put(endpoint_slice("c", "10.0.0.3"))
        await until(lambda: len(view.addresses()) == 3)
    assert not view.problems


@pytest.mark.parametrize("text", [b"{]\n", b"null\n", b'{"type":"MOVED","object":{}}\n', b"\xff\n"])
async def test_garbage_on_a_watch_costs_a_list_and_no_endpoint(api, text):
    async with viewing(api) as view:
        await until(lambda: api.watches == 2)
        api.say(text, "endpointslices")
        api.put(endpoint_slice("c", "10.0.0.3"))
        await until(lambda: view.addresses() == [*BOTH, "10.0.0.3"])
        await until(lambda: api.count("list", "endpointslices") == 2)
    assert not [e for e in view.told if isinstance(e, Removed)]


async def test_a_server_that_spoils_every_watch_is_asked_less_and_less_often(api):
    async with viewing(api, timing={"backoff_s": (0.05, 0.2), "healthy_s": 5.0}) as view:
        loop = asyncio.get_running_loop()
        end = loop.time() + 1.0

        def spoilt():
            api.say(b"{]\n", "endpointslices")
            return loop.time() >= end

        await until(spoilt)
        assert view.counters.get(metrics.FAILURES, "fake", "relist") + view.counters.get(
            metrics.FAILURES, "fake", "garbage"
        )
        assert api.count("list", "endpointslices") < 60
        assert view.addresses() == BOTH


async def test_k20_versions_that_go_back_are_noticed_and_read_anew(api):
    api.put(endpoint_slice("c", "10.0.0.3"))
    async with viewing(api) as view:
        assert len(view.addresses()) == 3
        api.objects.restore(api.objects.version - 1)
        api.cut_watches()
        await until(lambda: view.addresses() == BOTH, "the backup's state")
        api.put(endpoint_slice("d", "10.0.0.4"))
        await until(lambda: view.addresses() == [*BOTH, "10.0.0.4"], "changes after it")


async def test_k20_versions_that_go_back_within_a_watch_are_noticed_too(api):
    async with viewing(api) as view:
        await until(lambda: api.watches == 2)
        old = endpoint_slice("a", "10.0.0.9")
        old["metadata"]["resourceVersion"] = "7"
        api.say(_event("MODIFIED", old), "endpointslices")
        await until(lambda: api.count("list", "endpointslices") == 2, "a new list")
        await until(lambda: api.count("watch", "endpointslices") == 2, "watching again")
        assert view.addresses() == BOTH


@pytest.mark.parametrize("cuts", [True, False], ids=["metadata alone", "whole objects"])
async def test_k23_an_event_that_was_never_sent_is_found_and_mended(api, cuts):
    api.cuts = cuts  # a server that can't sends the objects whole
    async with viewing(api, timing={"check_s": 0.02}) as view:
        await until(lambda: api.watches == 2)
        repaired = {metric.name: values for metric, values in view.counters}[metrics.REPAIRS]
        assert repaired == {("fake", "services"): 0, ("fake", "endpointslices"): 0}  # for alerts
        api.drop_next = 1
        api.put(endpoint_slice("a", "10.0.0.7"))
        api.bookmark()
        await until(lambda: view.addresses() == ["10.0.0.2", "10.0.0.7"], "the repair")
        assert view.counters.get(metrics.REPAIRS, "fake", "endpointslices") == 1
        checks = view.counters.get(metrics.CHECKS, "fake", "endpointslices")
        await until(
            lambda: view.counters.get(metrics.CHECKS, "fake", "endpointslices") > checks + 2
        )
        assert view.counters.get(metrics.REPAIRS, "fake", "endpointslices") == 1


async def test_a_check_asks_for_no_more_than_the_metadata_of_objects(api):
    async with viewing(api, timing={"check_s": 0.01}) as view:
        await until(lambda: view.counters.get(metrics.CHECKS, "fake", "services") > 1)
    exact = sum("resourceVersionMatch" in params for _, _, params in api.requests)
    assert api.cut == exact > 1
    assert api.count("list") == exact + 2  # those before the watches, whole


async def test_a_check_of_a_compacted_version_is_left_for_the_next_time(api):
    async with viewing(api, timing={"check_s": 0.01}) as view:
        await until(lambda: api.watches == 2)
        api.objects.version += 1
        api.objects.compact()
        lists = api.count("list")
        await until(lambda: api.count("list") > lists + 2)
        assert view.counters.get(metrics.REPAIRS, "fake", "endpointslices") == 0
        assert view.addresses() == BOTH


async def test_events_twice_and_late_change_nothing(api):
    async with viewing(api) as view:
        await until(lambda: api.watches == 2)
        api.put(endpoint_slice("a", "10.0.0.3"))
        first = api.objects.log[-1][3]
        api.put(endpoint_slice("a", "10.0.0.4"))
        api.delete(endpoint_slice("b"))
        await until(lambda: view.addresses() == ["10.0.0.4"])
        told = len(view.told)
        api.say(_event("MODIFIED", first) * 3, "endpointslices")
        api.put(endpoint_slice("z", "10.0.0.9"))
        await until(lambda: len(view.addresses()) == 2)
        assert view.addresses() == ["10.0.0.4", "10.0.0.9"]
        assert len(view.told) == told + 1
    assert api.count("list") == 2


@pytest.mark.parametrize("late", ["before", "after"])
async def test_k12_services_and_slices_may_come_and_go_in_either_order(api, late):
    async with viewing(api) as view:
        new, parts = service("users"), endpoint_slice("u", "10.0.5.1", of="users")
        api.put(*((new, parts) if late == "after" else (parts, new)))
        await until(lambda: view.addresses("users.shop:8080") == ["10.0.5.1"])
        api.delete(*((new, parts) if late == "after" else (parts, new)))
        await until(lambda: "users.shop:8080" not in view.clusters)
        assert view.addresses() == BOTH


async def test_k13_a_slice_that_changes_its_service_leaves_one_and_joins_the_other(api):
    api.put(service("users"))
    async with viewing(api) as view:
        api.put(endpoint_slice("b", "10.0.0.2", of="users"))
        await until(lambda: view.addresses("users.shop:8080") == ["10.0.0.2"])
        await until(lambda: view.addresses() == ["10.0.0.1"], "settled")
        api.put(endpoint_slice("b", "10.0.0.2", of=None))
        await until(lambda: view.addresses("users.shop:8080") == [])


async def test_k17_an_event_of_two_megabytes_is_one_event(api):
    many = [f"10.{n >> 8}.{n & 255}.7" for n in range(9000)]
    async with viewing(api) as view:
        await until(lambda: api.watches == 2)
        api.put(endpoint_slice("big", *many))
        await until(lambda: len(view.addresses()) == 9002)
    assert api.count("list") == 2


async def test_k18_an_object_that_breaks_the_types_keeps_its_last_good_state(api):
    broken = endpoint_slice("a", "10.0.0.5")
    broken["endpoints"] = "many"
    async with viewing(api) as view:
        api.put(broken, endpoint_slice("c", "10.0.0.3"))
        await until(lambda: view.addresses() == [*BOTH, "10.0.0.3"])
        (problem,) = view.problems
        assert "EndpointSlice shop/a" in str(problem)
        api.objects.compact()
        api.cut_watches()  # a list that has it broken deletes it no more than the event did
        api.put(endpoint_slice("a", "10.0.0.6"))
        await until(lambda: view.addresses() == ["10.0.0.2", "10.0.0.3", "10.0.0.6"])


async def test_an_error_event_that_is_not_gone_is_waited_out_without_a_list(api):
    async with viewing(api) as view:
        await until(lambda: api.watches == 2)
        status = {"kind": "Status", "code": 500, "message": "etcdserver: leader changed"}
        api.say(_event("ERROR", status), "endpointslices")
        await until(lambda: view.counters.get(metrics.FAILURES, "fake", "watch_error") == 1)
        api.put(endpoint_slice("c", "10.0.0.3"))
        await until(lambda: len(view.addresses()) == 3)
    assert api.count("list") == 2


async def test_nothing_that_follows_an_error_event_is_lost(api):
    async with viewing(api) as view:
        await until(lambda: api.watches == 2)
        api.put(endpoint_slice("c", "10.0.0.3"), endpoint_slice("d", "10.0.0.4"))
        api.skip()
        (*_, third), (*_, fourth) = api.objects.log[-2:]
        status = _event("ERROR", {"kind": "Status", "code": 500, "message": "leader changed"})
        raw = _event("ADDED", third) + status + _event("ADDED", fourth)
        api.say(raw, "endpointslices")  # and the connection stays open
        await until(lambda: len(view.addresses()) == 4)
    assert api.count("list") == 2


async def test_what_came_before_gone_in_one_chunk_is_used(api):
    async with viewing(api) as view:
        await until(lambda: api.watches == 2)
        late = endpoint_slice("c", "10.0.0.3")
        late["metadata"]["resourceVersion"] = str(api.objects.version + 1)
        told = len(view.told)
        api.say(_event("ADDED", late) + _event("ERROR", GONE), "endpointslices")
        await until(lambda: api.count("list", "endpointslices") == 2)
        await until(lambda: view.addresses() == BOTH)  # the list does not have it
        assert [len(e.snapshot.endpoints) for e in view.told[told:]] == [3, 2]


def _event(kind, obj):
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"
