"""A list that lacks what was there a moment ago, and no word of a deletion."""

import asyncio

import pytest

from fake_api import viewing
from fake_api.view import until
from kube import endpoint_slice, service
from trimtab.discovery.kubernetes import metrics
from trimtab.discovery.kubernetes.withholding import Withholding, bereft, is_mass

BOTH = ["10.0.0.1", "10.0.0.2"]
LONG = {"hold_s": 60.0}


def forget(api, *documents):
    """The server's data is without these, and no watch will ever tell."""
    api.forget(*documents)
    api.cut_watches()


def withheld(view):
    return view.counters.get(metrics.WITHHELD, "fake")


async def test_an_empty_list_takes_nothing_away_for_a_while(api, caplog):
    async with viewing(api, timing=LONG) as view:
        told = len(view.told)
        forget(api, service(), endpoint_slice("a"), endpoint_slice("b"))
        await until(lambda: withheld(view) == 3, "all three are missed")
        await until(lambda: api.watches == 2, "watching again")
        assert view.addresses() == BOTH
        assert view.told[told:] == []
    assert "no watch told of a deletion" in caplog.text
    assert "--hold-down" in caplog.text


async def test_and_then_it_is_believed(api):
    async with viewing(api, timing={"hold_s": 0.2}) as view:
        forget(api, service(), endpoint_slice("a"), endpoint_slice("b"))
        await until(lambda: withheld(view) > 0, "held")
        assert view.addresses() == BOTH
        await until(lambda: not view.clusters, "gone")
        await until(lambda: withheld(view) == 0, "nothing is held")


async def test_what_shows_up_again_stays(api):
    async with viewing(api, timing={"hold_s": 0.5}) as view:
        forget(api, endpoint_slice("a"), endpoint_slice("b"))
        await until(lambda: withheld(view) == 2, "held")
        api.put(endpoint_slice("a", "10.0.0.1"), endpoint_slice("b", "10.0.0.9"))
        await until(lambda: view.addresses() == ["10.0.0.1", "10.0.0.9"], "news are taken in")
        await until(lambda: withheld(view) == 0, "nothing is held")


async def test_a_deletion_that_is_told_is_evidence(api):
    async with viewing(api, timing=LONG) as view:
        api.delete(service(), endpoint_slice("a"), endpoint_slice("b"))
        await until(lambda: not view.clusters, "gone at once")
        assert withheld(view) == 0


async def test_a_few_that_a_list_lacks_are_believed_at_once(api):
    api.put(*(endpoint_slice(f"n{i}", f"10.0.1.{i + 1}") for i in range(10)))
    async with viewing(api, timing=LONG) as view:
        forget(api, endpoint_slice("a"))
        await until(lambda: "10.0.0.1" not in view.addresses(), "gone")
        assert len(view.addresses()) == 11
        assert withheld(view) == 0


async def test_a_slice_that_is_there_and_empty_is_evidence(api):
    async with viewing(api, timing=LONG) as view:
        api.put(endpoint_slice("a"), endpoint_slice("b"))
        await until(lambda: view.addresses() == [], "empty")


async def test_what_is_there_again_as_its_time_ends_stays(api):
    async with viewing(api, timing={"hold_s": 0.3}) as view:
        forget(api, endpoint_slice("a"), endpoint_slice("b"))
        await until(lambda: withheld(view) == 2, "held")
        async with view.source._applying:
            api.put(endpoint_slice("a", "10.0.0.1"), endpoint_slice("b", "10.0.0.2"))
            loop = asyncio.get_running_loop()
            over = loop.time() + 0.4
            await until(
                lambda: loop.time() > over, "its time is over, and its return is not read yet"
            )
        await until(lambda: withheld(view) == 0, "nothing is held")
        assert view.addresses() == BOTH


async def test_slices_of_services_that_are_not_read_count_for_nothing(api):
    api.put(*(endpoint_slice(f"n{i}", f"10.0.1.{i + 1}") for i in range(20)))
    api.put(*(endpoint_slice(f"x{i}", f"10.0.2.{i + 1}", of="unread") for i in range(10)))
    async with viewing(api, timing=LONG) as view:
        forget(api, endpoint_slice("a"), *(endpoint_slice(f"x{i}", of="unread") for i in range(10)))
        await until(lambda: "10.0.0.1" not in view.addresses(), "gone at once")
        assert withheld(view) == 0


# ---- one Service beside others ----

FEW_PODS = [f"10.0.5.{i + 1}" for i in range(5)]
USERS = "users.shop:8080"


@pytest.fixture
def beside(api):
    """The Service ``users`` of one slice with five endpoints, beside some ninety of others."""
    api.put(*(endpoint_slice(f"n{i}", *(f"10.1.{i}.{j}" for j in range(1, 10))) for i in range(10)))
    api.put(service("users"), endpoint_slice("u", *FEW_PODS, of="users"))
    return api


def users(*names):
    return [endpoint_slice(name, of="users") for name in names]


async def test_the_only_slice_of_one_service_among_many_that_a_list_lacks_stays_for_a_while(
    beside, caplog
):
    async with viewing(beside, timing={"hold_s": 0.5}) as view:
        told = len(view.told)
        forget(beside, *users("u"), endpoint_slice("n1"))
        await until(lambda: withheld(view) == 1, "held")
        assert view.addresses(USERS) == FEW_PODS
        await until(lambda: "10.1.1.1" not in view.addresses(), "others go at once")
        await until(lambda: view.addresses(USERS) == [], "then it is believed")
        assert withheld(view) == 0
        assert all(e.snapshot.cluster != USERS for e in view.told[told:-1])
    assert "lacks 1 objects (endpointslices) with most endpoints of shop/users" in caplog.text


async def test_a_service_that_a_list_lacks_with_its_slices_stays_for_a_while(beside):
    async with viewing(beside, timing={"hold_s": 0.5}) as view:
        forget(beside, service("users"), *users("u"))
        await until(lambda: withheld(view) == 2, "held")
        assert view.addresses(USERS) == FEW_PODS
        await until(lambda: USERS not in view.clusters, "then it is believed")
        assert withheld(view) == 0


async def test_slices_that_were_made_anew_under_other_names_are_evidence(beside):
    async with viewing(beside, timing=LONG) as view:
        beside.objects.put(endpoint_slice("v", "10.0.6.1", of="users"))
        forget(beside, *users("u"))
        await until(lambda: view.addresses(USERS) == ["10.0.6.1"], "the old pods go at once")
        assert withheld(view) == 0


@pytest.mark.parametrize("left", [["10.0.6.1"], []], ids=["to one", "to zero"])
async def test_a_slice_that_stays_with_fewer_endpoints_is_evidence(beside, left):
    beside.put(endpoint_slice("v", "10.0.6.1", "10.0.6.2", of="users"))
    async with viewing(beside, timing=LONG) as view:
        beside.objects.put(endpoint_slice("v", *left, of="users"))
        forget(beside, *users("u"))
        await until(lambda: view.addresses(USERS) == left, "scaled down")
        assert withheld(view) == 0


async def test_a_slice_that_stays_as_it_was_is_none(beside):
    beside.put(endpoint_slice("v", "10.0.6.1", of="users"))
    async with viewing(beside, timing=LONG) as view:
        forget(beside, *users("u"))
        await until(lambda: withheld(view) == 1, "held")
        await until(lambda: beside.watches == 2, "watching again")
        assert view.addresses(USERS) == [*FEW_PODS, "10.0.6.1"]


@pytest.mark.parametrize(
    ("missing", "stay"), [(4, 0), (5, 5)], ids=["fewer than five", "not over half"]
)
async def test_less_is_believed_at_once(beside, missing, stay):
    beside.put(endpoint_slice("u", *FEW_PODS[:missing], of="users"))
    beside.put(endpoint_slice("v", *(f"10.0.6.{i + 1}" for i in range(stay)), of="users"))
    async with viewing(beside, timing=LONG) as view:
        forget(beside, *users("u"))
        await until(lambda: len(view.addresses(USERS)) == stay, "gone")
        assert withheld(view) == 0


async def test_the_deletion_of_its_service_is_evidence_and_one_that_follows_gets_no_old_pods(
    beside,
):
    async with viewing(beside, timing=LONG) as view:
        forget(beside, *users("u"))
        await until(lambda: withheld(view) == 1, "held")
        await until(lambda: beside.watches == 2, "watching again")
        beside.delete(service("users"))
        await until(lambda: USERS not in view.clusters, "gone at once")
        await until(lambda: withheld(view) == 0, "nothing is held")
        beside.put(service("users"))
        await until(lambda: view.addresses(USERS) == [], "a new one")


def test_what_is_missed_twice_is_not_kept_for_longer():
    kept = Withholding(10.0)
    assert kept.keep(["a"], 0.0)
    assert kept.keep(["a", "b"], 4.0)
    assert kept.due == 10.0
    assert kept.over(9.9) == []
    assert kept.over(10.0) == ["a"]
    assert kept.over(14.0) == ["b"]


def test_without_a_time_nothing_is_kept():
    kept = Withholding(0.0)
    assert not kept.keep(["a"], 0.0)
    assert not len(kept)


@pytest.mark.parametrize(
    ("lost", "known", "mass"),
    [(5, 25, True), (5, 26, False), (4, 5, False), (1, 1, True), (0, 0, False)],
)
def test_all_is_many_and_so_are_five_that_are_a_fifth(lost, known, mass):
    assert is_mass(lost, known) is mass


def test_a_service_is_bereft_of_its_endpoints_by_all_that_is_missing_of_it():
    losses = {"a": ("x", 3), "b": ("x", 3), "c": ("y", 6), "d": ("z", 4)}
    assert bereft(losses, {"x": 11, "y": 12, "z": 4}.get) == {"x"}
