"""Pods that stop without a word, over HTTP: frozen, cut off, or out of connections."""

import asyncio
import contextlib
import gc
import socket
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from math import inf
from random import Random

import pytest

from doors import recording
from doors.silencers import CutOff, Frozen
from harness.waiting import Deadline, pause
from http_victim import start_victim
from trimtab.balancer import Balancer, Node
from trimtab.client.http_liveness import Liveness, words
from trimtab.model import Endpoint, PolicyConfig, Snapshot
from trimtab.policies import Outcome
from trimtab.testing import FakeClock

URL = "http://orders.shop:8080"

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def victim():
    made = start_victim()
    yield made
    made[0].kill()


@pytest.fixture(autouse=True)
async def threads():
    """Requests of blocking clients wait in them, more than asyncio has by itself."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(64))


@pytest.fixture(params=[Frozen, CutOff])
def silencer(request, victim):
    made = request.param(victim)
    yield made
    made.close()


# Only silence leaves a pod out. On a busy machine requests may reach their time limit before it is noticed,
# and by those errors a pod could get none for long.
BY_SILENCE = PolicyConfig.of("round_robin", eject=False, error_bias=0)


class Known:
    """A client of three servers and the victim, and what its balancer thinks of the victim."""

    def __init__(self, door, servers, port, **more):
        targets = [*(s.target for s in servers.open("a", "b", "c")), f"127.0.0.1:{port}"]
        self.client = door(endpoints={"orders.shop:8080": targets}, policy=BY_SILENCE, **more)
        self._port = port

    async def server(self):
        return (await self.client.send("GET", URL + "/")).seen["server"]

    @property
    def balancer(self):
        (cluster,) = self.client.transport._clusters
        return cluster.balancer

    @property
    def node(self):
        return self.balancer.nodes["127.0.0.1", self._port]

    @property
    def is_left_alone(self):
        """It is silent; or it rests, where it took no connection before its silence was noticed.

        The victim's kernel accepts six connections without it. On a machine so busy that patience is long,
        they are used up.
        """
        return self.balancer.is_silent(self.node) or not self.node.connected

    async def warm(self):
        while "victim" not in [await self.server() for _ in range(8)]:
            pass

    async def until_noticed(self):
        """Send requests until the victim is left alone; those that wait for it."""
        sent = []
        deadline = Deadline(60)
        while not self.is_left_alone:
            assert not deadline.passed, self.balancer
            sent.append(asyncio.create_task(self.server()))
            await asyncio.to_thread(pause, 0.015)
        return sent


async def eventually(look, within=15):
    deadline = Deadline(within)
    while not look():
        assert not deadline.passed
        await asyncio.to_thread(pause)


async def test_a_pod_that_falls_silent_gets_no_new_requests_and_is_used_again_when_it_speaks(
    door, servers, silencer
):
    known = Known(door, servers, silencer.port, timeout=30.0)
    await known.warm()
    silencer.fall_silent()
    try:
        waiting = await known.until_noticed()
        sent = known.node.picks
        assert "victim" not in [await known.server() for _ in range(100)]
        assert known.node.picks == sent
    finally:
        silencer.speak()
    assert "victim" in await asyncio.gather(*waiting)  # none failed

    async def used():
        return "victim" in [await known.server() for _ in range(8)]

    deadline = Deadline(15)
    while not await used():
        assert not deadline.passed


async def test_a_question_brings_it_back_not_a_request(door, servers, silencer):
    known = Known(door, servers, silencer.port, timeout=1.0)
    await known.warm()
    silencer.fall_silent()
    deadline = Deadline(120)
    try:
        while not known.is_left_alone or known.node.in_flight:
            # Where a busy machine makes most of them silent, nobody is for a moment.
            assert not deadline.passed
            waiting = await known.until_noticed()
            await asyncio.gather(*waiting, return_exceptions=True)  # the callers have given up
        sent = known.node.picks
    finally:
        silencer.speak()
    await eventually(lambda: not known.is_left_alone)
    assert known.node.picks == sent


async def test_a_pod_that_takes_no_connections_is_asked_beside_the_requests(door, servers):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        where = deaf.getsockname()
        filling = [socket.socket() for _ in range(4)]
        for each in filling:
            each.setblocking(False)
            each.connect_ex(where)
        try:
            known = Known(door, servers, where[1])
            waiting = [asyncio.create_task(known.server()) for _ in range(8)]
            assert "victim" not in await asyncio.gather(*waiting)  # asked elsewhere: none failed
            await eventually(lambda: not known.node.connected)
            deadline = Deadline(2)  # its first rest is over after one
            while not deadline.passed:
                assert await known.server() in {"a", "b", "c"}
                assert not known.node.connected  # no request has tried it
            deaf.setblocking(False)

            def back():
                with contextlib.suppress(BlockingIOError):
                    deaf.accept()[0].close()
                return known.node.connected

            await eventually(back)
        finally:
            for each in filling:
                each.close()


async def test_answers_that_have_begun_and_go_on_make_nobody_silent(door, servers):
    two = servers.open("a", "b")
    client = door(endpoints={"orders.shop:8080": [s.target for s in two]}, policy="round_robin")
    going_on = []
    for _ in range(12):
        going_on.append(await client.begin(URL + "/parts"))
        await asyncio.to_thread(pause, 0.03)
    (cluster,) = client.transport._clusters
    assert cluster.balancer._stack.stalls.found == 0
    for server in two:
        server.let_go.set()
    for response in going_on:
        await response.aclose()


async def test_a_connection_that_did_not_come_about_is_told_apart_from_a_failure(door, servers):
    with socket.socket() as nobody, recording.recorded() as ends:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        refusing = f"127.0.0.1:{nobody.getsockname()[1]}"
        known = door(
            endpoints={"orders.shop:8080": [servers.open("a").target, refusing]},
            policy=recording.NAME,
        )
        for _ in range(8):
            assert (await known.send("GET", URL + "/")).seen["server"] == "a"
        assert {o for at, o in ends if at == refusing} == {Outcome.UNREACHED}


class Asking:
    """A cluster whose name TLS can't say, and what it was told of its pods."""

    service = f"{'x' * 64}.shop:443"
    tls = True

    def __init__(self):
        self.clock = FakeClock()
        self.balancer = Balancer(
            self.service,
            clock=self.clock,
            random=Random(1),
            policy=PolicyConfig("round_robin"),
            stalled=lambda _: None,
        )
        self.told = {}

    def silenced(self, pod):
        """A node that has left requests without an answer while others gave theirs."""
        self.balancer.update(Snapshot(self.service, (pod, *(Endpoint(x, 80) for x in "abc"))))
        for node in self.balancer.nodes.values():
            self.balancer.set_connected(node, True)
        silent = self.balancer.nodes[pod.key]
        while not self.balancer.is_silent(silent):
            self.clock.advance(0.01)
            pick = self.balancer.pick()
            if pick.node is not silent:
                pick.finish(Outcome.SUCCESS)
        return silent

    def beat(self):
        self.balancer.beat()

    def returned(self, node, *, connects):
        self.told[node.endpoint.address] = connects


def test_a_pod_whose_name_is_none_does_not_connect():
    asking = Asking()
    liveness = Liveness()
    liveness.attend(asking)
    liveness.ask_resting(asking, Node(Endpoint("a..b", 80)), 0.0)
    deadline = Deadline(10)
    while not asking.told:
        assert not deadline.passed
        pause()
    assert asking.told == {"a..b": False}
    liveness.leave(asking)


def test_where_no_thread_can_begin_a_named_pod_does_not_connect_and_others_are_asked(monkeypatch):
    asking = Asking()
    liveness = Liveness()
    liveness.attend(asking)

    def refused(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    with socket.create_server(("127.0.0.1", 0)) as there:
        pods = [Endpoint("localhost", 80), Endpoint("127.0.0.1", there.getsockname()[1])]
        for pod in pods:
            liveness.ask_resting(asking, Node(pod), 0.0)
        deadline = Deadline(10)
        while len(asking.told) < 2:
            assert not deadline.passed
            pause()
    assert asking.told == {"localhost": False, "127.0.0.1": True}
    liveness.leave(asking)


@pytest.mark.parametrize("resting", [False, True])
def test_a_client_that_is_dropped_without_being_closed_is_not_kept(resting):
    asking = Asking()
    liveness = Liveness()
    liveness.attend(asking)
    if resting:
        liveness.ask_resting(asking, Node(Endpoint("127.0.0.1", 80)), 1e6)
    deadline = Deadline(10)
    while asking.balancer._beat == inf:
        assert not deadline.passed
        pause()
    dropped = weakref.ref(asking)
    del asking
    while dropped() is not None:
        assert not deadline.passed
        gc.collect()
        pause()


def test_a_pod_that_is_found_silent_again_and_again_is_asked_one_question_at_a_time():
    asking = Asking()
    asking.tls = False
    liveness = Liveness()
    liveness.attend(asking)
    with (
        socket.create_server(("127.0.0.1", 0)) as there,
        socket.create_server(("127.0.0.1", 0)) as last,
    ):
        node = asking.silenced(Endpoint("127.0.0.1", there.getsockname()[1]))
        for _ in range(3):
            liveness.ask_silent(asking, node)
        # What is asked after them is answered after they have connected.
        liveness.ask_resting(asking, Node(Endpoint("127.0.0.1", last.getsockname()[1])), 0.0)
        deadline = Deadline(10)
        while not asking.told:
            assert not deadline.passed
            pause()
        liveness.leave(asking)
        there.accept()[0].close()
        there.setblocking(False)
        with pytest.raises(BlockingIOError):
            there.accept()


def test_a_client_that_was_closed_asks_nobody_any_more():
    closed, other = Asking(), Asking()
    liveness = Liveness()
    for each in (closed, other):
        liveness.attend(each)
    liveness.leave(closed)
    with (
        socket.create_server(("127.0.0.1", 0)) as there,
        socket.create_server(("127.0.0.1", 0)) as last,
    ):
        for asking, server in ((closed, there), (other, last)):
            node = Node(Endpoint("127.0.0.1", server.getsockname()[1]))
            liveness.ask_resting(asking, node, 0.0)
        # What is asked after it is answered after it would have connected.
        deadline = Deadline(10)
        while not other.told:
            assert not deadline.passed
            pause()
        liveness.leave(other)
        there.setblocking(False)
        with pytest.raises(BlockingIOError):
            there.accept()


def test_a_question_under_tls_needs_no_name_that_tls_can_say():
    assert words(Asking()).startswith(b"\x16\x03")  # a handshake
