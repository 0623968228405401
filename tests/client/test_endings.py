"""Whatever way calls end, in whatever mix, nothing is counted as in flight when nothing is."""

import contextlib
import gc
from random import Random

import grpc
import pytest

from doors import loop, threads
from harness.waiting import eventually
from trimtab import Retry
from trimtab.model import Endpoint, Snapshot

DOORS = {**threads.DOORS, **loop.DOORS}
STEPS = 120
CODES = [code.value[0] for code in grpc.StatusCode if code is not grpc.StatusCode.OK]

pytestmark = [
    pytest.mark.processes,
    # As in test_doors: gRPC's own thread, under the stand-in for a missing hook.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


class OnPurposeError(Exception):
    """A caller's own bug."""


class Caller:
    """Begins calls of every arity and ends them in every way, as its seed says.

    Attributes:
        under_way: calls that may have no end of their own.
    """

    def __init__(self, door, servers, ask, seed, **given):
        self.random = Random(seed)
        self.ask = ask
        self.drops = door.drop_safe
        self.servers = servers.open("a", "b", "c")
        self.generation = 0
        self.channel = door.open(None, **given)
        self.pods_change()
        self.channel.ready()
        self.under_way = []
        self.steps = [
            *(self.answered, self.failed, self.late, self.cancelled, self.refused_here) * 3,
            *(self.read_in_part, self.given_up, self.broken_off_by_its_requests) * 3,
            self.pods_change,
        ]

    def step(self):
        with contextlib.suppress(grpc.RpcError, grpc.aio.UsageError, OnPurposeError):
            self.random.choice(self.steps)()

    def begin(self, method, *requests, **more):
        given = iter(requests) if method in {"Gather", "Talk"} else requests[0]
        return self.channel.begin(method, given, **more)

    def any_method(self):
        return self.random.choice(("Say", "Count", "Gather", "Talk"))

    def answered(self):
        self.channel.say(self.ask(), timeout=10)
        self.channel.count(self.ask(replies=3), timeout=10)
        self.channel.gather([self.ask(), self.ask()], timeout=10)
        self.channel.talk([self.ask(), self.ask()], timeout=10)

    def failed(self):
        # Without messages before it: what is unread holds up the end.
        request = self.ask(fail_with=self.random.choice(CODES))
        self.begin(self.any_method(), request, timeout=5).code()

    def late(self):
        timeout = self.random.choice((0.0, 0.001, 0.05))
        self.under_way.append(self.begin(self.any_method(), self.ask(hold=True), timeout=timeout))

    def cancelled(self):
        self.begin(self.any_method(), self.ask(hold=self.random.random() < 0.5)).cancel()

    def refused_here(self):
        self.begin(self.any_method(), "no message", timeout=0.5).code()

    def read_in_part(self):
        call = self.begin("Count", self.ask(replies=3, hold=True), timeout=10)
        call.first()
        call.cancel()

    def given_up(self):
        if self.drops:
            call = self.begin("Count", self.ask(replies=3, hold=True))
            if self.random.random() < 0.7:
                call.first()
            call.drop()

    def broken_off_by_its_requests(self):
        def requests():
            yield self.ask()
            raise OnPurposeError

        call = self.channel.begin(self.random.choice(("Gather", "Talk")), requests(), timeout=0.2)
        self.under_way.append(call)

    def pods_change(self):
        """All are others', at the same addresses; one may be missing."""
        self.generation += 1
        there = self.random.sample(self.servers, self.random.choice((2, 3)))
        pods = [Endpoint("127.0.0.1", s.port, uid=str(self.generation)) for s in there]
        self.channel.update(Snapshot("orders.shop:80", tuple(sorted(pods, key=lambda e: e.key))))

    def end(self):
        for call in self.under_way:
            with contextlib.suppress(grpc.RpcError):
                call.cancel()
                call.code()
        self.under_way.clear()
        gc.collect()

    def counted(self):
        """Requests that are counted anywhere: at pods, at those that left, on connections."""
        links = list(self.channel.raw._cluster._links)
        return self.channel.balancer.in_flight + sum(len(link.open) for link in links)


@pytest.fixture(params=DOORS)
def door(request, echo):
    made = DOORS[request.param](echo)
    yield made
    made.close()


@pytest.mark.parametrize("retry", [None, Retry(attempts=3)], ids=["once", "retried"])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_random_mix_of_ends_leaves_nothing_in_flight(door, servers, echo, seed, retry):
    caller = Caller(door, servers, echo[0].Request, seed, retry=retry)
    for _ in range(STEPS):
        caller.step()
    caller.servers[0].stop()  # whatever is under way there breaks off
    caller.end()
    eventually(lambda: caller.counted() == 0, within=10, what="nothing is in flight")


@pytest.mark.parametrize("kind", threads.DOORS)
@pytest.mark.parametrize("method", ["Say", "Count"])
def test_a_declared_call_that_waited_and_can_not_be_written_ends(echo, servers, kind, method):
    server = servers.open("a")
    door = threads.DOORS[kind](echo)
    channel = door.open(None, retry=Retry(attempts=3))
    call = channel.begin(method, "no message", timeout=20, wait_for_ready=True)
    channel.update(Snapshot("orders.shop:80", (Endpoint("127.0.0.1", server.port),)))
    assert call.code() is grpc.StatusCode.INTERNAL
    eventually(lambda: channel.balancer.in_flight == 0, within=10, what="nothing is in flight")
    door.close()
