"""A ready endpoint that vanishes without a word is held for a moment. Row K11 of the fault matrix."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    assert told(settling, 1.1, Updated(snapshot(1, 2))) == []
    assert settling.due is None
    assert told(settling, 2.0) == []


def test_what_does_not_is_told_when_the_time_is_over():
    settling = Settling(0.2)
    told(settling, 0.0, Updated(snapshot(1, 2)))
    assert told(settling, 1.0, Updated(snapshot(1))) == []
    assert told(settling, 1.1, Updated(snapshot())) == []
    assert told(settling, 1.2) == [["1"]]  # each has a time of its own
    assert settling.due == pytest.approx(1.3)
    assert told(settling, 1.31) == [[]]
    assert settling.due is None


def test_a_pod_whose_second_address_goes_stays_with_its_first():
    settling = Settling(0.2)
    (alone,) = snapshot(1).endpoints
    both = replace(alone, additional_addresses=("fd00::1",))
    for now, endpoint in enumerate((both, alone, both)):
        state = Snapshot("orders.shop:80", (endpoint,))
        assert settling.tell([Updated(state)], now) == [Updated(state)]
        assert settling.due is None


def test_one_that_goes_for_good_does_not_hurry_one_that_moves():
    settling = Settling(0.2)
    told(settling, 0.0, Updated(snapshot(1, 2, 3)))
    told(settling, 1.0, Updated(snapshot(2, 3)))
    told(settling, 1.19, Updated(snapshot(3)))
    assert told(settling, 1.2) == [["2", "3"]]
    assert told(settling, 1.25, Updated(snapshot(2, 3))) == []


POD = {"uid": "u"}
V4, V6 = Endpoint("10.0.0.1", 80, **POD), Endpoint("fd00::1", 80, **POD)
FIRST_V4 = replace(V4, additional_addresses=("fd00::1",))
FIRST_V6 = replace(V6, additional_addresses=("10.0.0.1",))


def addresses(endpoints):
    return [a for e in endpoints for a in (e.address, *e.additional_addresses)]


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        (V4, FIRST_V6, [FIRST_V6]),  # the second family's slice came later
        (FIRST_V6, FIRST_V4, [FIRST_V4]),
        (FIRST_V4, V6, [V4, V6]),  # one family's slice moves: its address stays for the moment
    ],
)
def test_no_address_of_a_dual_stack_pod_is_told_twice(before, after, shown):
    settling = Settling(0.2)
    settling.tell([Updated(Snapshot("orders.shop:80", (before,)))], 0.0)
    (event,) = settling.tell([Updated(Snapshot("orders.shop:80", (after,)))], 1.0)
    assert list(event.snapshot.endpoints) == shown


STATES = st.sampled_from([None, V4, V6, FIRST_V4, FIRST_V6])
PODS = 3


def pods(states):
    """Each pod in one of the states that its slices may show."""
    for n, state in enumerate(states):
        if state is not None:
            address, *others = (a[:-1] + f"{n}" for a in addresses([state]))
            yield replace(state, address=address, uid=f"{n}", additional_addresses=tuple(others))


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.0625, 0.125, 0.5]),  # sums of them are exact
            st.lists(STATES, min_size=PODS, max_size=PODS),
            st.sampled_from([Health.READY, Health.READY, Health.DRAINING]),
        ),
        min_size=1,
    )
)
def test_whatever_vanishes_nothing_is_told_twice_and_nothing_ready_is_absent_too_soon(steps):
    settling = Settling(0.25)
    now, shown, truth, missing, left = 0.0, None, None, {}, {}
    for pause, states, health in steps:
        now += pause
        new = Snapshot("orders.shop:80", tuple(replace(e, health=health) for e in pods(states)))
        here = addresses(new.endpoints)
        if truth is not None:
            for endpoint in truth.endpoints:
                if endpoint.health is Health.READY and endpoint.address not in here:
                    missing[endpoint.address] = now
            left |= dict.fromkeys(set(addresses(truth.endpoints)).difference(here), now)
        missing = {a: since for a, since in missing.items() if a not in here}
        truth = new
        for event in settling.tell([Updated(new)], now):
            shown = event.snapshot
        told_addresses = addresses(shown.endpoints)
        assert len(set(told_addresses)) == len(told_addresses)
        assert list(shown.endpoints) == sorted(shown.endpoints, key=lambda e: e.key)
        held = {a for a, since in missing.items() if now - since < 0.25}
        recent = {a for a, since in left.items() if now - since < 0.25}
        assert {*here, *held} <= set(told_addresses) <= {*here, *recent}
    for event in settling.tell([], now + 0.25):
        shown = event.snapshot
    assert shown == truth
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
