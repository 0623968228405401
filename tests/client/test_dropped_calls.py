"""Calls and channels that are dropped, where the collector finds them: in the middle of what others do."""

import asyncio
import gc
import threading
import time
from random import Random

import grpc
import pytest

import trimtab
import trimtab.aio
import trimtab.httpx
from doors.told import spec
from harness.stepping import at_each_line, at_one_line_after_the_other
from harness.waiting import eventually
from trimtab import Endpoint, Retry, Snapshot
from trimtab import balancer as balancer_module
from trimtab.balancer import Balancer
from trimtab.client import afterwards as afterwards_module
from trimtab.client import fallback as fallback_module
from trimtab.client import observing, sync_cluster, sync_probes, wakeup
from trimtab.client.afterwards import Afterwards, end_given_up
from trimtab.client.fallback import Fallback, WithFallback
from trimtab.client.grpc_sync import BalancedChannel
from trimtab.client.metrics import COUNTERS
from trimtab.client.watching import Fixed

SERVICE = "orders.shop:80"
HERE = Snapshot(SERVICE, (Endpoint("127.0.0.1", 1),))
NOBODY = Snapshot(SERVICE, ())
wall = time.time  # noqa: TID251 - the age of a file


def ends(step):
    """Whether a step comes to its end; it is taken in a thread, as it may wait for itself for ever."""
    taking = threading.Thread(target=step, daemon=True)
    taking.start()
    eventually(lambda: not taking.is_alive(), within=20, what="the step came to its end")


class Exporter:
    """As OpenTelemetry's SDK and prometheus_client have it: a lock is held while one is counted.

    Garbage is collected under it, as it may be anywhere.
    """

    def __init__(self):
        self.lock = threading.Lock()
        self.collects = False
        self.statuses = []
        self.waited_for_itself = False

    def _count(self, status=None):
        if not self.lock.acquire(timeout=5):
            self.waited_for_itself = True
            return
        try:
            if status is not None:
                self.statuses.append(status)
            if self.collects:
                gc.collect()
        finally:
            self.lock.release()

    def attempt(self, _sent):
        self._count()
        return lambda status, more=False: self._count(status)  # noqa: ARG005 - an Observer's

    def call(self, _service, _method, before=0.0):
        self._count()
        return self._count


@pytest.fixture
def exporter(uncollected):
    made = Exporter()
    remove = observing.install(made)
    yield made
    remove()


def tied(call):
    """Makes it garbage that only the collector finds."""
    held = [call]
    held.append(held)


OPTION = [(grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1)]
KINDS = {
    "stream": (None, None),
    "single-threaded stream": (OPTION, None),
    "declared stream": (None, Retry(attempts=2)),
}


@pytest.mark.processes
@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_that_is_collected_while_an_exporter_counts_is_told_without_its_lock(
    servers, echo, exporter, kind
):
    messages, stubs = echo
    options, retry = KINDS[kind]
    target = servers.open("a").target
    with trimtab.insecure_channel(SERVICE, options, endpoints=[target], retry=retry) as channel:
        stub = stubs.EchoStub(channel)
        stream = stub.Count(messages.Request(replies=2, hold=True))
        next(stream)
        tied(stream)
        del stream
        exporter.collects = True
        stub.Say(messages.Request(), timeout=10)
        eventually(lambda: "CANCELLED" in exporter.statuses, within=20, what="its end is told")
        eventually(lambda: channel.trimtab.in_flight == 0, within=20, what="and counted")
    assert not exporter.waited_for_itself


@pytest.mark.processes
@pytest.mark.parametrize("retry", [None, Retry(attempts=2)], ids=["plain", "declared"])
async def test_on_a_loop_as_well(servers, echo, exporter, retry):
    messages, stubs = echo
    target = servers.open("a").target
    async with trimtab.aio.insecure_channel(SERVICE, endpoints=[target], retry=retry) as channel:
        await channel.channel_ready()
        stub = stubs.EchoStub(channel)
        async for _ in (stream := stub.Count(messages.Request(replies=2, hold=True))):
            break
        tied(stream)
        del stream
        exporter.collects = True
        await stub.Say(messages.Request(), timeout=10)

        def told():
            return "CANCELLED" in exporter.statuses and channel.trimtab.in_flight == 0

        await asyncio.to_thread(eventually, told, within=20, what="its end is told and counted")
    assert not exporter.waited_for_itself


def test_a_channel_that_is_dropped_at_each_step_of_hearing_news_holds_up_nobody():
    channel = BalancedChannel(spec(None, {}))
    cluster = channel._cluster

    def hear():
        with at_each_line(cluster.abandon, sync_cluster, wakeup, sync_probes, threading) as found:
            for _ in range(3):
                cluster.updated(HERE)
                cluster.failed("nobody is there")
                cluster.probes.send()
        interrupted.update(found)

    interrupted = set()
    ends(hear)
    assert {"updated", "ring", "send"} <= interrupted
    channel.close()


class Told:
    """Takes all that it is told."""

    def updated(self, _snapshot):
        pass

    def failed(self, _reason):
        pass


def test_a_channel_that_is_dropped_at_each_step_of_its_fallback_is_counted_out_of_it():
    def run(interrupted):
        given = Fallback(fixed=(Endpoint("127.0.0.1", 2),))
        standing = WithFallback(SERVICE, Told(), given, wall)
        standing.start(lambda _watcher: Fixed())

        def hear():
            with interrupted(standing.close):
                standing.updated(NOBODY)
                standing.updated(HERE)
                standing.failed("nobody can say")
                standing.updated(NOBODY)

        ends(hear)
        standing.close()
        assert COUNTERS.get("trimtab_client_fallback", SERVICE) == 0

    assert at_one_line_after_the_other(run, fallback_module, threading) > 30


def test_what_finalisers_leave_behind_at_each_step_of_each_other_is_done_in_order():
    done, later = [], Afterwards()

    def leave():
        later.do(lambda: done.append("in between"))

    def leave_some():
        with at_each_line(leave, afterwards_module) as found:
            later.do(lambda: done.append("first"))
            later.do(lambda: done.append("second"))
        interrupted.extend(found)

    interrupted = []
    ends(leave_some)
    assert len(interrupted) > 1
    eventually(lambda: len(done) == 2 + len(interrupted), within=20, what="all of it is done")
    assert [each for each in done if each != "in between"] == ["first", "second"]


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_a_step_that_raises_costs_the_next_one_nothing(caplog, error):
    def raises():
        raise error

    done, later = [], Afterwards()
    later.do(raises)
    later.do(lambda: done.append("next"))
    eventually(lambda: done, within=20, what="it is done")
    assert "could not be counted" in caplog.text


def test_a_request_whose_coroutine_is_collected_in_a_decision_is_counted_after_it():
    lock = threading.Lock()
    balancer = Balancer(SERVICE, clock=lambda: 0.0, random=Random(1), lock=lock)
    balancer.update(HERE)
    pick, statuses = balancer.pick(), []
    with lock:
        ends(lambda: end_given_up(pick, statuses.append, GeneratorExit()))
    eventually(lambda: statuses == ["CANCELLED"], within=20, what="it is told")
    assert balancer.in_flight == 1
    balancer.take_back()
    assert balancer.in_flight == 0


def test_picks_that_another_thread_takes_back_at_each_step_of_doing_so_are_ended_once():
    balancer = Balancer(SERVICE, clock=lambda: 0.0, random=Random(1))
    balancer.update(HERE)

    def run(interrupted):
        for _ in range(2):
            balancer.pick().drop()
        with interrupted(balancer.take_back):
            balancer.take_back()
        assert balancer.in_flight == 0

    assert at_one_line_after_the_other(run, balancer_module) > 3


def test_http_responses_that_were_dropped_are_counted_as_ended_though_no_other_request_comes():
    transport = trimtab.httpx.Transport(endpoints={SERVICE: ["127.0.0.1:1"]})
    cluster = transport._clusters.of("http", "orders.shop", 80)
    cluster.pick().drop()
    assert cluster.balancer.in_flight == 1
    cluster.beat()
    assert cluster.balancer.in_flight == 0
    transport.close()
