"""A ready endpoint that vanishes without a word is held for a moment. Row K11 of the fault matrix."""

import asyncio

import pytest

from fake_api import viewing
from fake_api.view import until
from kube import endpoint_slice
from trimtab.discovery.kubernetes.settling import Settling
from trimtab.model import Endpoint, Health, Removed, Snapshot, Updated


def snapshot(*numbers, **health):
    return Snapshot(
        "orders.shop:80",
        tuple(
            Endpoint(f"10.0.0.{n}", 80, health=health.get(f"e{n}", Health.READY)) for n in numbers
        ),
    )


def told(settling, now, *events):
    return [
        e.cluster if isinstance(e, Removed) else [x.address[-1] for x in e.snapshot.endpoints]
        for e in settling.tell(events, now)
    ]


def test_what_comes_back_in_time_was_never_away():
    settling = Settling(0.2)
    assert told(settling, 0.0, Updated(snapshot(1, 2))) == [["1", "2"]]
    assert told(settling, 1.0, Updated(snapshot(1))) == []
    assert settling.due == 1.2
    assert told(settling, 1.1, Updated(snapshot(1, 2))) == [["1", "2"]]
    assert settling.due is None
    assert told(settling, 2.0) == []


def test_what_does_not_is_told_when_the_time_is_over():
    settling = Settling(0.2)
    told(settling, 0.0, Updated(snapshot(1, 2)))
    assert told(settling, 1.0, Updated(snapshot(1))) == []
    assert told(settling, 1.1, Updated(snapshot())) == []  # the first one's time stands
    assert told(settling, 1.2) == [[]]
    assert settling.due is None


def test_an_addition_beside_it_is_told_at_once():
    settling = Settling(0.2)
    told(settling, 0.0, Updated(snapshot(1, 2)))
    assert told(settling, 1.0, Updated(snapshot(1, 3))) == [["1", "2", "3"]]
    assert told(settling, 1.2) == [["1", "3"]]


@pytest.mark.parametrize("health", [Health.DRAINING, Health.UNHEALTHY])
def test_an_endpoint_that_announced_its_end_goes_at_once(health):
    settling = Settling(0.2)
    told(settling, 0.0, Updated(snapshot(1, 2)))
    assert told(settling, 1.0, Updated(snapshot(1, 2, e2=health))) == [["1", "2"]]
    assert told(settling, 1.1, Updated(snapshot(1))) == [["1"]]


def test_a_deleted_service_goes_at_once():
    settling = Settling(0.2)
    told(settling, 0.0, Updated(snapshot(1, 2)))
    told(settling, 1.0, Updated(snapshot(1)))
    assert told(settling, 1.1, Removed("orders.shop:80")) == ["orders.shop:80"]
    assert told(settling, 2.0) == []


def test_without_a_time_nothing_is_held():
    settling = Settling(0.0)
    told(settling, 0.0, Updated(snapshot(1, 2)))
    assert told(settling, 0.0, Updated(snapshot(1))) == [["1"]]


async def test_k11_an_endpoint_that_moves_between_slices_by_delete_then_add_is_never_absent(api):
    async with viewing(api, timing={"settle_s": 5.0}) as view:
        await until(lambda: api.watches == 2)
        told_so_far = len(view.told)
        api.delete(endpoint_slice("a"))
        api.put(endpoint_slice("d", "10.0.0.4"))
        await until(lambda: len(view.addresses()) == 3, "the addition")
        api.put(endpoint_slice("c", "10.0.0.1"))
        api.put(endpoint_slice("e", "10.0.0.5"))
        await until(lambda: len(view.addresses()) == 4, "the move")
        for event in view.told[told_so_far:]:
            assert "10.0.0.1" in [e.address for e in event.snapshot.endpoints]


async def test_a_pod_that_vanishes_without_a_word_is_gone_after_the_settle_time(api):
    loop = asyncio.get_running_loop()
    async with viewing(api, timing={"settle_s": 0.1}) as view:
        await until(lambda: api.watches == 2)
        begin = loop.time()
        api.delete(endpoint_slice("a"))
        await until(lambda: view.addresses() == ["10.0.0.2"])
        assert loop.time() - begin >= 0.09
