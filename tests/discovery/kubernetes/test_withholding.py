"""A list that lacks what was there a moment ago, and no word of a deletion."""

import asyncio

import pytest

from fake_api import viewing
from fake_api.view import until
from kube import endpoint_slice, service
from trimtab.discovery.kubernetes import metrics
from trimtab.discovery.kubernetes.withholding import Withholding

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


def test_what_is_missed_twice_is_not_kept_for_longer():
    kept = Withholding(10.0)
    assert kept.misses(["a"], 5, 10, 0.0)
    assert kept.misses(["a", "b"], 5, 10, 4.0)
    assert kept.due == 10.0
    assert kept.over(9.9) == []
    assert kept.over(10.0) == ["a"]
    assert kept.over(14.0) == ["b"]


@pytest.mark.parametrize(
    ("hold_s", "lost", "known", "held"),
    [
        (10, 5, 25, True),
        (10, 5, 26, False),
        (10, 4, 5, False),
        (10, 1, 1, True),
        (10, 0, 0, False),
        (0, 10, 10, False),
    ],
)
def test_all_is_many_and_so_are_five_that_are_a_fifth(hold_s, lost, known, held):
    assert Withholding(hold_s).misses(["a"], lost, known, 0.0) is held
