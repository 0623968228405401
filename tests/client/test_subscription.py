"""The subscription's thread against real gRPC servers on loopback."""

import multiprocessing
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from harness.ports import free_port
from trimtab.client.ads_stream import AdsStream
from trimtab.client.bootstrap import Bootstrap, Server, load
from trimtab.client.subscriber import LINGER_S
from trimtab.client.subscription import Subscribed, Subscription, subscribe
from trimtab.errors import ConfigError
from trimtab.model import Snapshot
from trimtab.testing import ControlPlane, FakeClock

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
NAME = "orders.shop:grpc"


class Follower:
    """A watcher that remembers what it was told, and by which threads."""

    def __init__(self):
        self.told = []
        self.threads = set()
        self._changed = threading.Condition()

    def updated(self, snapshot):
        self._add(snapshot)

    def failed(self, reason):
        self._add(reason)

    def _add(self, news):
        with self._changed:
            self.told.append(news)
            self.threads.add(threading.current_thread().name)
            self._changed.notify_all()

    def targets(self):
        return [e.target for e in self.told[-1].endpoints]

    def wait(self, condition, timeout=15.0):
        """Wait until what was told last meets a condition; return it."""
        with self._changed:
            met = self._changed.wait_for(lambda: self.told and condition(self.told[-1]), timeout)
        assert met, f"told so far: {self.told}"
        return self.told[-1]

    def wait_targets(self, *targets):
        return self.wait(
            lambda news: (
                isinstance(news, Snapshot) and [e.target for e in news.endpoints] == list(targets)
            )
        )

    def wait_reason(self, *parts):
        return self.wait(lambda news: isinstance(news, str) and all(part in news for part in parts))


class Scripted:
    """A control plane of which each stream is played by ``behave(requests, context)``."""

    def __init__(self, behave, port=0):
        self.opened = []
        self.server = grpc.server(ThreadPoolExecutor(8))

        def stream(requests, context):
            self.opened.append(time.perf_counter())
            yield from behave(requests, context)

        handlers = {"StreamAggregatedResources": grpc.stream_stream_rpc_method_handler(stream)}
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, handlers),)
        )
        self.address = f"127.0.0.1:{self.server.add_insecure_port(f'127.0.0.1:{port}')}"

    def __enter__(self):
        self.server.start()
        return self

    def __exit__(self, *_):
        self.server.stop(None).wait()


@pytest.fixture
def follow():
    watches = []

    def start(bootstrap, name=NAME):
        follower = Follower()
        watches.append(subscribe(name, follower, bootstrap))
        follower.watch = watches[-1]
        return follower

    yield start
    for watch in watches:
        watch.close()


def test_watchers_share_one_stream_and_are_called_from_one_thread(follow):
    with ControlPlane() as control_plane:
        control_plane.set(NAME, ["10.0.0.1:1"])
        bootstrap = control_plane.bootstrap()
        followers = [follow(bootstrap) for _ in range(50)]
        for follower in followers:
            follower.wait_targets("10.0.0.1:1")
        assert len(control_plane.clients()) == 1
        control_plane.set(NAME, ["10.0.0.1:1", "10.0.0.2:1"])
        for follower in followers:
            follower.wait_targets("10.0.0.1:1", "10.0.0.2:1")
        assert {name for f in followers for name in f.threads} == {"trimtab-xds"}


def test_what_was_accepted_is_acknowledged(follow):
    with ControlPlane() as control_plane:
        control_plane.set(NAME, ["10.0.0.1:1"])
        follower = follow(control_plane.bootstrap())
        follower.wait_targets("10.0.0.1:1")
        states = eventually(
            lambda: {r.state for c in control_plane.clients() for r in c.resources},
            lambda states: states == {"acked"},
        )
        assert states == {"acked"}


def eventually(read, good, timeout=15.0):
    end = time.perf_counter() + timeout
    pause = threading.Event()
    while True:
        value = read()
        if good(value) or time.perf_counter() > end:
            return value
        pause.wait(0.01)


def test_an_unreachable_control_plane_is_told_and_works_when_it_comes(follow):
    port = free_port()
    follower = follow(Bootstrap.of(f"127.0.0.1:{port}", node_id="late"))
    follower.wait_reason(
        NAME,
        f"control plane 127.0.0.1:{port} unreachable for",
        "UNAVAILABLE",
        "refused",
        "check that it runs and that its address is right",
    )
    control_plane = ControlPlane(port=port)
    control_plane.set(NAME, ["10.0.0.1:1"])
    with control_plane:
        follower.wait_targets("10.0.0.1:1")


def test_the_last_good_state_outlives_the_control_plane_and_changes_follow_its_return(follow):
    with ControlPlane(port=free_port()) as control_plane:
        control_plane.set(NAME, ["10.0.0.1:1"])
        first = follow(control_plane.bootstrap())
        first.wait_targets("10.0.0.1:1")
        control_plane.stop()
        second = follow(control_plane.bootstrap())
        second.wait_targets("10.0.0.1:1")
        control_plane.set(NAME, ["10.0.0.2:1"])
        control_plane.start()
        first.wait_targets("10.0.0.2:1")
        second.wait_targets("10.0.0.2:1")
        assert not any(isinstance(news, str) for news in first.told)


def test_an_unknown_service_is_told_at_once_with_near_names_and_found_when_it_appears(follow):
    with ControlPlane() as control_plane:
        control_plane.set("orders.shop:8080", ["10.0.0.1:1"])
        started = time.perf_counter()
        follower = follow(control_plane.bootstrap(), "ordres.shop:8080")
        follower.wait_reason("ordres.shop:8080", "orders.shop:8080", control_plane.address)
        assert time.perf_counter() - started < 5
        control_plane.set("ordres.shop:8080", ["10.0.0.9:1"])
        follower.wait_targets("10.0.0.9:1")


def test_garbage_ends_the_stream_and_is_not_asked_for_in_a_loop(follow):
    def garbage(requests, context):
        next(requests)
        yield b"\xff\xff\xff"
        yield from ()
        for _ in requests:
            pass

    with Scripted(garbage) as server:
        follower = follow(Bootstrap.of(server.address, node_id="garbage"))
        follower.wait_reason(server.address, "broke the protocol")
        eventually(lambda: len(server.opened), lambda opened: opened >= 4)
    assert 4 <= len(server.opened) < 100


def test_the_second_control_plane_is_used_until_the_first_answers(follow):
    port = free_port()
    with ControlPlane() as second:
        second.set(NAME, ["10.0.0.2:1"])
        follower = follow(Bootstrap.of(f"127.0.0.1:{port}", second.address, node_id="two"))
        follower.wait_targets("10.0.0.2:1")
        first = ControlPlane(port=port)
        first.set(NAME, ["10.0.0.1:1"])
        with first:
            follower.wait_targets("10.0.0.1:1")
            assert eventually(second.clients, lambda clients: not clients) == []


def test_a_closed_watch_hears_no_more_and_the_name_is_unsubscribed(follow):
    with ControlPlane() as control_plane:
        control_plane.set(NAME, ["10.0.0.1:1"])
        control_plane.set("carts.shop:grpc", ["10.0.0.7:1"])
        leaving, staying = follow(control_plane.bootstrap()), follow(control_plane.bootstrap())
        other = follow(control_plane.bootstrap(), "carts.shop:grpc")
        for follower in (leaving, staying, other):
            follower.wait(lambda news: isinstance(news, Snapshot))
        leaving.watch.close()
        leaving.watch.close()
        control_plane.set(NAME, ["10.0.0.2:1"])
        staying.wait_targets("10.0.0.2:1")
        assert leaving.targets() == ["10.0.0.1:1"]
        staying.watch.close()
        names = eventually(
            lambda: {
                resource.name
                for client in control_plane.clients()
                for resource in client.resources
                if resource.type_url.endswith("Listener")
            },
            lambda names: NAME not in names,
        )
        assert names == {"carts.shop:grpc"}


def test_a_watcher_that_raises_costs_the_others_nothing(follow):
    class Broken(Follower):
        def updated(self, snapshot):
            super().updated(snapshot)
            raise RuntimeError("a bug in the watcher")

    with ControlPlane() as control_plane:
        control_plane.set(NAME, ["10.0.0.1:1"])
        broken = Broken()
        watch = subscribe(NAME, broken, control_plane.bootstrap())
        broken.wait_targets("10.0.0.1:1")
        healthy = follow(control_plane.bootstrap())
        healthy.wait_targets("10.0.0.1:1")
        control_plane.set(NAME, ["10.0.0.2:1"])
        broken.wait_targets("10.0.0.2:1")
        healthy.wait_targets("10.0.0.2:1")
        watch.close()


def test_a_watcher_may_subscribe_and_close_while_it_is_called(follow):
    with ControlPlane() as control_plane:
        control_plane.set(NAME, ["10.0.0.1:1"])
        control_plane.set("carts.shop:grpc", ["10.0.0.7:1"])
        inner = []

        class Nested(Follower):
            def updated(self, snapshot):
                inner.append(follow(control_plane.bootstrap(), "carts.shop:grpc"))
                self.watch.close()
                super().updated(snapshot)

        nested = Nested()
        holder = Follower()
        holder.watch = subscribe(NAME, holder, control_plane.bootstrap())
        holder.wait_targets("10.0.0.1:1")
        nested.watch = subscribe(NAME, nested, control_plane.bootstrap())
        nested.wait_targets("10.0.0.1:1")
        inner[0].wait_targets("10.0.0.7:1")
        holder.watch.close()


@pytest.mark.parametrize("name", ["", "xdstp://a/b"])
def test_a_name_that_no_control_plane_can_be_asked_is_refused(name):
    with pytest.raises(ConfigError, match=r"SERVICE\.NAMESPACE:PORT"):
        subscribe(name, Follower(), Bootstrap.of("127.0.0.1:1"))


def test_a_certificate_file_that_is_missing_is_told(follow):
    server = {
        "server_uri": "127.0.0.1:1",
        "channel_creds": [{"type": "tls", "config": {"ca_certificate_file": "/no/ca.pem"}}],
    }
    follower = follow(load({"xds_servers": [server], "node": {"id": "tls"}}))
    follower.wait_reason("/no/ca.pem", "No such file")


CHILD = """
import sys, threading
from trimtab.client.bootstrap import Bootstrap
from trimtab.client.subscription import subscribe
done = threading.Event()
class Watcher:
    def updated(self, snapshot):
        print([e.target for e in snapshot.endpoints], flush=True); done.set()
    def failed(self, reason):
        print("failed", flush=True); done.set()
subscribe("orders.shop:grpc", Watcher(), Bootstrap.of(sys.argv[1]))
assert done.wait(20)
"""


@pytest.mark.processes
def test_a_program_that_never_closed_anything_ends_at_once_and_quietly():
    with ControlPlane() as control_plane:
        control_plane.set(NAME, ["10.0.0.1:1"])
        for address, said in ((control_plane.address, "['10.0.0.1:1']"), ("127.0.0.1:1", "failed")):
            ran = subprocess.run(
                [sys.executable, "-c", CHILD, address],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            assert (ran.returncode, ran.stdout.strip(), ran.stderr) == (0, said, "")


def first_targets(address, pipe):
    follower = Follower()
    watch = subscribe(NAME, follower, Bootstrap.of(address, node_id="child"))
    follower.wait(lambda news: isinstance(news, Snapshot))
    pipe.send(follower.targets())
    watch.close()


@pytest.mark.processes
def test_a_spawned_process_has_its_own_subscription():
    context = multiprocessing.get_context("spawn")
    with ControlPlane() as control_plane:
        control_plane.set(NAME, ["10.0.0.1:1"])
        here, there = context.Pipe()
        child = context.Process(target=first_targets, args=(control_plane.address, there))
        child.start()
        assert here.poll(30)
        assert here.recv() == ["10.0.0.1:1"]
        child.join(15)
        assert child.exitcode == 0


FORKED = """
import os, sys, threading
from trimtab.client import xds_metrics
from trimtab.client.bootstrap import Bootstrap
from trimtab.client.subscription import subscribe
class Watcher:
    def __init__(self):
        self.done = threading.Event()
    def updated(self, snapshot):
        self.done.set()
    def failed(self, reason):
        print(reason)
def follow(bootstrap):
    watcher = Watcher()
    watch = subscribe("orders.shop:grpc", watcher, bootstrap)
    assert watcher.done.wait(10), "nothing came"
    return watch
bootstrap = Bootstrap.of(sys.argv[1])
inherited = follow(bootstrap) if sys.argv[2] == "used" else None
child = os.fork()
follow(bootstrap)
if inherited:
    inherited.close()
if child == 0:
    # The parent's counts are the parent's.
    received = xds_metrics.read()["grpc_xds_client_resource_updates_valid_total"]
    assert max(received.values()) == 1, received
    sys.exit(7)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 7, status
"""


@pytest.mark.processes
@pytest.mark.parametrize("parent", ["unused", "used"])
def test_a_forked_child_starts_a_subscription_of_its_own(parent):
    with ControlPlane() as control_plane:
        control_plane.set(NAME, ["10.0.0.1:1"])
        ran = subprocess.run(
            [sys.executable, "-c", FORKED, control_plane.address, parent],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        # gRPC itself may log that it skipped its fork handlers.
        assert (ran.returncode, ran.stdout, "Traceback" in ran.stderr) == (0, "", False), ran.stderr


SERVER = """
import sys
from trimtab.testing import ControlPlane
with ControlPlane() as control_plane:
    control_plane.set("orders.shop:grpc", ["10.0.0.1:1"])
    print(control_plane.address, flush=True)
    sys.stdin.read()
"""


@pytest.mark.processes
def test_a_frozen_control_plane_is_noticed_by_its_silence_to_pings():
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            closed = threading.Event()
            errors = []

            def note(error):
                errors.append(error)
                closed.set()

            address = server.stdout.readline().strip()
            stream = AdsStream(Server(address), 1.0, lambda _response: None, note)
            assert not closed.wait(2.5), f"pings are refused: {errors}"
            server.send_signal(signal.SIGSTOP)
            assert closed.wait(15), "1 s between pings and 5 s for the answer have passed"
            assert "ping timeout" in errors[0]
            stream.join(5)
        finally:
            server.kill()


def test_a_response_above_four_mebibytes_is_read(follow):
    def huge(requests, context):
        next(requests)
        yield b"\xff" * (8 * 1024 * 1024)
        for _ in requests:
            pass

    with Scripted(huge) as server:
        follower = follow(Bootstrap.of(server.address, node_id="huge"))
        follower.wait_reason("broke the protocol")


def test_a_control_plane_that_ends_every_stream_politely_is_a_failure_too(follow):
    def goodbye(requests, context):
        next(requests)
        yield from ()

    with Scripted(goodbye) as server:
        follower = follow(Bootstrap.of(server.address, node_id="goodbye"))
        follower.wait_reason(server.address, "ended the stream")


def test_metadata_that_is_not_json_is_refused_at_the_call():
    servers = [{"server_uri": "127.0.0.1:1", "channel_creds": [{"type": "insecure"}]}]
    wrong = load({"xds_servers": servers, "node": {"id": "x", "metadata": {"when": object()}}})
    with pytest.raises(ConfigError, match=r"node\.metadata"):
        subscribe(NAME, Follower(), wrong)


def test_the_thread_ends_when_nothing_is_watched_and_starts_again():
    clock = FakeClock(1000.0)
    lock = threading.Lock()
    with ControlPlane() as control_plane:
        control_plane.set(NAME, ["10.0.0.1:1"])
        subscription = Subscription(control_plane.bootstrap(), lock, clock)

        def follow_once():
            follower = Follower()
            claim = Subscribed(subscription, NAME, follower)
            with lock:
                subscription.post(lambda subscriber, now: subscriber.watch(claim, NAME, now))
                subscription.start()
            follower.wait_targets("10.0.0.1:1")
            claim.close()
            (left,) = eventually(control_plane.clients, lambda clients: not clients[0].resources)
            assert left.resources == ()

        follow_once()
        clock.advance(LINGER_S + 1)
        subscription.post(lambda _subscriber, _now: None)
        assert eventually(lambda: subscription.running, lambda running: not running) is False
        assert eventually(control_plane.clients, lambda clients: not clients) == []
        follow_once()
        subscription.stop()
