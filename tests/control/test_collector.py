"""Python's garbage collector holds nobody up for long, and nothing is lost to it."""

import gc
import weakref

import pytest

from plane import QueueSource, RawClient, assignments, eventually, running, updated
from trimtab.control import metrics
from trimtab.control.collector import FREEZE_FROM_S, WHOLE_EVERY_S, Collector
from trimtab.model import Removed, Synced
from trimtab.telemetry import Counters
from trimtab.xds.type_urls import EDS

ORDERS = "orders.shop:8080"


class Clock:
    """Moves on by ``step`` with each look."""

    def __init__(self):
        self.now = 0.0
        self.step = 0.0

    def __call__(self):
        self.now += self.step
        return self.now


class Knot:
    """Refers to itself: only the collector can free it."""

    def __init__(self):
        self.itself = self


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def counters():
    return Counters(metrics.METRICS)


@pytest.fixture
def collector(clock, counters):
    gc.collect()
    with Collector(counters, clock):
        yield


@pytest.mark.usefixtures("collector")
def test_what_has_survived_a_long_collection_is_not_walked_over_again(clock):
    clock.step = FREEZE_FROM_S / 2
    gc.collect()
    assert gc.get_freeze_count() == 0  # a short one may have it again
    clock.step = FREEZE_FROM_S * 2
    gc.collect(1)
    assert gc.get_freeze_count() == 0  # the young have not shown yet that they stay
    held = Knot()
    gc.collect()
    assert gc.get_freeze_count() > 1000
    assert not any(found is held for found in gc.get_objects())


@pytest.mark.usefixtures("collector")
def test_what_is_frozen_is_freed_as_ever_and_cycles_of_it_once_a_day(clock):
    plain, knot = Knot(), Knot()
    plain.itself = None
    there = [weakref.ref(plain), weakref.ref(knot)]
    clock.step = FREEZE_FROM_S * 2
    gc.collect()
    del plain, knot
    assert [ref() is None for ref in there] == [True, False]
    clock.now += WHOLE_EVERY_S / 2
    gc.collect()
    assert there[1]() is not None
    clock.now += WHOLE_EVERY_S / 2
    gc.collect()
    assert there[1]() is None
    assert gc.get_freeze_count() > 1000  # and is frozen again


@pytest.mark.usefixtures("collector")
def test_each_pause_is_measured(clock, counters):
    clock.step = 0.3
    for generation in range(3):
        gc.collect(generation)
    (pauses,) = (v for m, v in counters.histograms() if m.name == metrics.GC_PAUSE)
    assert sum(pauses[()].counts) == 3
    assert pauses[()].total == pytest.approx(3 * 0.3)


def test_afterwards_the_process_is_as_it_was(clock, counters):
    before = gc.get_threshold(), list(gc.callbacks), gc.get_freeze_count()
    clock.step = FREEZE_FROM_S
    with Collector(counters, clock):
        gc.collect()
        assert gc.get_threshold() != before[0]
    assert (gc.get_threshold(), list(gc.callbacks), gc.get_freeze_count()) == before


def ours(found):
    """Whether an object is trimtab's own, or a coroutine of its code."""
    code = getattr(found, "cr_code", None)
    return type(found).__module__.startswith("trimtab.") or (
        code is not None and "/trimtab/" in code.co_filename
    )


@pytest.mark.parametrize("delta", [False, True], ids=["sotw", "delta"])
async def test_no_stream_and_no_change_leaves_a_cycle_that_freezing_would_hide(delta):
    source = QueueSource(updated("orders", 1), Synced())
    async with running(source) as plane:

        async def one_client(turn):
            async with RawClient(plane.xds_address) as client:
                stream = client.delta() if delta else client.sotw()
                names = "resource_names_subscribe" if delta else "resource_names"
                await stream.hello(type_url=EDS, **{names: [ORDERS]})
                for pod in (1, 2):
                    source.put(updated("orders", turn, pod))
                    answer = await stream.read()
                    await stream.ack(answer, **({} if delta else {names: [ORDERS]}))
                assert set(assignments(answer)) == {ORDERS}
            source.put(Removed(f"other-{turn}.shop:8080"))
            source.put(updated(f"other-{turn + 1}", turn))
            await eventually(lambda: not plane.server.streams)

        await one_client(3)
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for turn in range(4, 9):
                await one_client(turn)
            gc.collect()
            assert [found for found in gc.garbage if ours(found)] == []
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
