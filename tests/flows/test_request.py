"""One request, whole: control plane, subscription, channel, real servers. All in this process."""

import asyncio
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

import trimtab
import trimtab.aio
from harness.ports import free_port
from harness.waiting import measured
from trimtab.model import Endpoint, Health
from trimtab.testing import ControlPlane

NAME = "orders.shop:grpc"
TARGET = f"xds:///{NAME}"
METHOD = "/demo.Echo/Say"


class Echo:
    """A server that answers with its own address."""

    def __init__(self):
        def say(_request, _context):
            self.requests += 1
            return self.address.encode()

        self.requests = 0
        self.server = grpc.server(ThreadPoolExecutor(4))
        handlers = {"Say": grpc.unary_unary_rpc_method_handler(say)}
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("demo.Echo", handlers),)
        )
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{self.port}"
        self.server.start()

    def endpoint(self, health=Health.READY):
        return Endpoint("127.0.0.1", self.port, health=health)


@pytest.fixture
def echoes():
    servers = [Echo() for _ in range(4)]
    yield servers
    for server in servers:
        server.server.stop(None).wait()


@pytest.fixture
def control_plane():
    with ControlPlane(port=free_port()) as plane:  # the same again after a restart
        yield plane


def assert_even(counts, servers, requests):
    # p2c compares requests in flight only: of sequential ones there are none, and it draws uniformly.
    # Binomial, 5 sigma.
    share = 1 / len(servers)
    spread = 5 * (requests * share * (1 - share)) ** 0.5
    assert set(counts) == {server.address.encode() for server in servers}
    for count in counts.values():
        assert abs(count - requests * share) <= spread, counts


def test_a_sync_channel_spreads_requests_over_the_endpoints_of_the_control_plane(
    echoes, control_plane
):
    control_plane.set(NAME, [server.address for server in echoes])
    with trimtab.insecure_channel(
        TARGET, bootstrap=control_plane.bootstrap(), policy="p2c"
    ) as channel:
        grpc.channel_ready_future(channel).result(timeout=15)
        say = channel.unary_unary(METHOD)
        say(b"", timeout=15)
        warm_up(lambda: say(b"", timeout=15), echoes)
        assert_even(Counter(say(b"", timeout=15) for _ in range(400)), echoes, 400)


def warm_up(call, servers):
    """Call until each server has answered, so that all are connected."""
    wanted = {server.address.encode() for server in servers}
    end = time.perf_counter() + 15
    seen = set()
    while seen != wanted and time.perf_counter() < end:
        seen.add(call())
    assert seen == wanted


async def test_an_asyncio_channel_spreads_requests_over_the_endpoints_of_the_control_plane(
    echoes, control_plane
):
    control_plane.set(NAME, [server.address for server in echoes])
    async with trimtab.aio.insecure_channel(
        TARGET, bootstrap=control_plane.bootstrap(), policy="p2c"
    ) as channel:
        await asyncio.wait_for(channel.channel_ready(), 15)
        say = channel.unary_unary(METHOD)
        wanted = {server.address.encode() for server in echoes}
        async with asyncio.timeout(15):
            while {await say(b"") for _ in range(40)} != wanted:
                pass
        counts = Counter([await say(b"", timeout=15) for _ in range(400)])
        assert_even(counts, echoes, 400)


class Load:
    """Callers that never stop, and what they got."""

    def __init__(self, call, callers=4):
        self.answers = Counter()
        self.errors = []
        self._call = call
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(callers)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self):
        while not self._stop.is_set():
            try:
                self.answers[self._call()] += 1
            except grpc.RpcError as error:
                self.errors.append(error)
            self._stop.wait(0.001)


class AioLoad:
    """The same on an asyncio channel, driven from a loop on a thread of its own."""

    def __init__(self, bootstrap, callers=8):
        self.answers = Counter()
        self.errors = []
        self._bootstrap = bootstrap
        self._callers = callers
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(30)

    async def _main(self):
        async with trimtab.aio.insecure_channel(TARGET, bootstrap=self._bootstrap) as channel:
            say = channel.unary_unary(METHOD)
            await asyncio.gather(*(self._run(say) for _ in range(self._callers)))

    async def _run(self, say):
        while not self._stop.is_set():
            try:
                self.answers[await say(b"", timeout=15)] += 1
            except grpc.RpcError as error:
                self.errors.append(error)


def eventually(condition, what, timeout=15.0):
    end = time.perf_counter() + timeout
    pause = threading.Event()
    while not condition():
        assert time.perf_counter() < end, what
        pause.wait(0.01)


def quiet(server, others, load):
    """Wait until ``server`` gets nothing while the others together get 100 requests more."""

    def got_none():
        before, start = server.requests, sum(load.answers.values())
        eventually(lambda: sum(load.answers.values()) > start + 100, "the load stands still")
        return server.requests == before

    eventually(got_none, f"{server.address} still gets requests; others: {others}")


def go_through_a_rollout(control_plane, echoes, load):
    first, second, third, fourth = echoes
    eventually(lambda: load.answers[first.address.encode()] > 20, "no answers yet")

    control_plane.set(NAME, [first.endpoint(), second.endpoint(), third.endpoint()])
    eventually(lambda: third.requests > 20, "an added endpoint gets no requests")

    control_plane.set(NAME, [first.endpoint(Health.DRAINING), second.endpoint(), third.endpoint()])
    quiet(first, [second, third], load)

    control_plane.set(NAME, [second.endpoint(), third.endpoint()])
    quiet(first, [second, third], load)

    control_plane.stop()
    before = second.requests
    eventually(lambda: second.requests > before + 50, "no requests without the control plane")
    control_plane.set(NAME, [fourth.endpoint()])
    control_plane.start()
    eventually(lambda: fourth.requests > 50, "no requests after the control plane's return")
    quiet(second, [fourth], load)


def test_a_rollout_and_a_control_plane_restart_fail_no_request_of_a_sync_channel(
    echoes, control_plane
):
    control_plane.set(NAME, [server.endpoint() for server in echoes[:2]])
    with trimtab.insecure_channel(TARGET, bootstrap=control_plane.bootstrap()) as channel:
        say = channel.unary_unary(METHOD)
        say(b"", timeout=15)
        with Load(lambda: say(b"", timeout=15)) as load:
            go_through_a_rollout(control_plane, echoes, load)
        assert load.errors == []


def test_a_rollout_and_a_control_plane_restart_fail_no_request_of_an_asyncio_channel(
    echoes, control_plane
):
    control_plane.set(NAME, [server.endpoint() for server in echoes[:2]])
    with AioLoad(control_plane.bootstrap()) as load:
        go_through_a_rollout(control_plane, echoes, load)
    assert load.errors == []


def test_an_unknown_service_fails_the_request_within_a_second_and_names_it(control_plane):
    control_plane.set("orders.shop:8080", ["127.0.0.1:1"])
    took = []
    while not measured(took, below=1.0):
        with trimtab.insecure_channel(
            "xds:///ordres.shop:8080", bootstrap=control_plane.bootstrap()
        ) as channel:
            started = time.perf_counter()
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(METHOD)(b"", timeout=15)
            took.append(time.perf_counter() - started)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            for part in ("ordres.shop:8080", "orders.shop:8080", control_plane.address):
                assert part in caught.value.details()
    assert min(took) < 1.0


def test_a_request_made_before_the_control_plane_is_up_waits_for_it_if_it_says_so(echoes):
    late = ControlPlane(port=free_port())
    late.set(NAME, [echoes[0].address])
    with trimtab.insecure_channel(TARGET, bootstrap=late.bootstrap()) as channel:
        say = channel.unary_unary(METHOD)
        with pytest.raises(grpc.RpcError) as caught:
            say(b"", timeout=15)
        assert f"control plane {late.address} unreachable" in caught.value.details()
        waiting = say.future(b"", timeout=60, wait_for_ready=True)
        with late:
            assert waiting.result(timeout=60) == echoes[0].address.encode()
