"""Whom a channel calls while the control plane is away or has nobody."""

import json
import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import grpc
import pytest

import trimtab
import trimtab.aio
from doors.loop import Loop
from doors.servers import Servers
from harness.ports import free_port
from harness.waiting import Deadline, eventually
from trimtab import Endpoint, LastGood, PolicyConfig, Snapshot
from trimtab.client.fallback import Fallback, WithFallback
from trimtab.client.last_good import LastGoodFile
from trimtab.client.metrics import COUNTERS, text
from trimtab.client.seats import Seated
from trimtab.client.watching import Fixed
from trimtab.errors import ConfigError
from trimtab.testing import ControlPlane

SERVICE = "orders.shop:80"


class Threads:
    def __init__(self, echo, **more):
        self._channel = trimtab.insecure_channel(f"xds:///{SERVICE}", **more)
        self._stub = echo[1].EchoStub(self._channel)
        self._request = echo[0].Request

    def say(self, timeout=10):
        return self._stub.Say(self._request(), timeout=timeout).server

    def close(self):
        self._channel.close()


class OnLoop:
    def __init__(self, echo, **more):
        self._loop = Loop()
        self._channel = self._loop.do(trimtab.aio.insecure_channel, f"xds:///{SERVICE}", **more)
        self._stub = echo[1].EchoStub(self._channel)
        self._request = echo[0].Request
        self._closed = False

    def say(self, timeout=10):
        async def say():
            return (await self._stub.Say(self._request(), timeout=timeout)).server

        return self._loop.run(say())

    def close(self):
        if not self._closed:
            self._closed = True
            self._loop.run(self._channel.close())
            self._loop.stop()


@pytest.fixture(params=[Threads, OnLoop])
def opened(request, echo):
    made = []

    def opened(**more):
        made.append(request.param(echo, **more))
        return made[-1]

    yield opened
    for channel in made:
        channel.close()


@pytest.fixture
def servers(echo):
    made = Servers(echo)
    yield made.open("a", "b")
    made.close()


@pytest.fixture
def control_plane():
    with ControlPlane(port=free_port()) as made:  # the same again after a restart
        yield made


def bootstrap(address):
    return {"xds_servers": [{"server_uri": address, "channel_creds": [{"type": "insecure"}]}]}


@pytest.fixture(params=["refuses", "is silent"])
def lost(request):
    """The bootstrap of a control plane that can't be had."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # which refuses connections, and keeps the port for us
        if request.param == "is silent":
            deaf.listen()
        yield bootstrap(f"127.0.0.1:{deaf.getsockname()[1]}")


def active():
    return COUNTERS.get("trimtab_client_fallback", SERVICE)


def kept(directory, *targets, saved_at=1000.0):
    file = LastGoodFile(LastGood(str(directory)), SERVICE, lambda: saved_at)
    file.save(Snapshot(SERVICE, tuple(Endpoint("127.0.0.1", server.port) for server in targets)))
    return file


@pytest.mark.processes
def test_a_start_without_a_control_plane_calls_the_last_good_list(
    opened, control_plane, servers, tmp_path, lost
):
    keeps = LastGood(str(tmp_path))
    control_plane.set(SERVICE, [servers[0].target])
    opened(bootstrap=control_plane.bootstrap(), fallback=[keeps]).say()
    eventually(lambda: list(tmp_path.glob("*.trimtab")), within=10, what="the list is kept")
    assert active() == 0
    begin = Deadline(10)
    channel = opened(bootstrap=lost, fallback=[keeps])
    assert channel.say() == "a"
    assert begin.elapsed < 5  # a control plane that is black-holed takes native gRPC 20 s
    assert active() == 1
    assert f'trimtab_client_fallback{{service="{SERVICE}"}} 1' in text()
    channel.close()
    assert active() == 0


@pytest.mark.processes
def test_without_a_list_the_fixed_endpoints_are_called(opened, servers, tmp_path, lost):
    fallback = [LastGood(str(tmp_path)), servers[1].target]
    assert opened(bootstrap=lost, fallback=fallback).say() == "b"


@pytest.mark.processes
def test_a_fallback_ends_when_the_control_plane_is_back_and_both_are_said_once(
    opened, servers, caplog, echo
):
    caplog.set_level(logging.INFO, "trimtab.client")
    control_plane = ControlPlane()
    control_plane.start()
    address = control_plane.bootstrap()
    control_plane.stop()
    channel = opened(bootstrap=address, fallback=[servers[1].target])
    assert channel.say() == "b"
    control_plane.set(SERVICE, [servers[0].target])
    control_plane.start()
    try:
        eventually(lambda: channel.say() == "a", within=20, what="its own endpoints are used")
        assert active() == 0
    finally:
        control_plane.stop()
    said = [r.getMessage() for r in caplog.records if ": fallback " in r.getMessage()]
    assert len(said) == 2
    assert said[0].startswith(f"{SERVICE}: fallback begins: fixed endpoints; ")
    assert said[1] == f"{SERVICE}: fallback ends: 1 endpoints are known"


@pytest.mark.processes
def test_a_service_without_endpoints_calls_the_fixed_ones_and_not_the_last_good_list(
    opened, control_plane, servers, tmp_path
):
    kept(tmp_path, servers[0])
    control_plane.set(SERVICE, [])
    channel = opened(
        bootstrap=control_plane.bootstrap(),
        fallback=[LastGood(str(tmp_path), max_age_s=1e12), servers[1].target],
    )
    assert channel.say() == "b"
    control_plane.set(SERVICE, [servers[0].target])
    eventually(lambda: channel.say() == "a", within=10, what="its own endpoints are used")
    control_plane.set(SERVICE, [])
    eventually(lambda: channel.say() == "b", within=10, what="the fallback is used again")


@pytest.mark.processes
def test_a_service_may_name_its_own_fallback(opened, control_plane, servers):
    where = f"localhost:{servers[1].port}"
    control_plane.set(Snapshot(SERVICE, (), PolicyConfig.of("token", fallback=where)))
    assert opened(bootstrap=control_plane.bootstrap()).say() == "b"


@pytest.mark.processes
def test_without_a_fallback_a_service_without_endpoints_fails_at_once(opened, control_plane):
    control_plane.set(SERVICE, [])
    with pytest.raises(grpc.RpcError) as error:
        opened(bootstrap=control_plane.bootstrap()).say()
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE


def damaged(raw):
    return raw[:-20] + b"x" + raw[-19:]


def newer(raw):
    return signed(json.loads(raw.partition(b"\n")[2]) | {"format": 2})


def unfit(raw):
    return signed(json.loads(raw.partition(b"\n")[2]) | {"endpoints": [{"address": 5}]})


def foreign(raw):
    return signed(json.loads(raw.partition(b"\n")[2]) | {"cluster": "users.shop:80"})


def signed(content):
    body = json.dumps(content).encode()
    return sha256(body).hexdigest().encode() + b"\n" + body


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (damaged, "damaged"),
        (lambda _: b"", "damaged"),
        (newer, "of format 2"),
        (unfit, "Expected"),
        (foreign, "of 'users.shop:80'"),
    ],
)
def test_a_file_that_can_not_be_trusted_is_passed_over_in_words(change, why, tmp_path, caplog):
    file = kept(tmp_path)
    assert file.load() == (Snapshot(SERVICE, ()), 0.0)
    file.path.write_bytes(change(file.path.read_bytes()))
    assert file.load() is None
    assert why in caplog.text


def test_a_list_is_good_for_so_long(tmp_path, caplog):
    now = [1000.0]
    file = LastGoodFile(LastGood(str(tmp_path), max_age_s=60.0), SERVICE, lambda: now[0])
    file.save(Snapshot(SERVICE, (Endpoint("10.0.0.1", 80, labels=(("shard", "7"),)),)))
    now[0] += 60.0
    assert file.load()[1] == 60.0
    now[0] += 1.0
    assert file.load() is None
    assert "it is 61 s old, more than 60 s" in caplog.text
    now[0] = 0.0  # the wall clock was set back
    assert file.load()[1] == 0.0


def test_writers_at_once_leave_one_whole_list_and_nothing_else(tmp_path):
    def write(i):
        file = LastGoodFile(LastGood(str(tmp_path)), SERVICE, lambda: 0.0)
        file.save(Snapshot(SERVICE, tuple(Endpoint(f"10.0.{i}.{j}", 80) for j in range(50))))
        return file

    with ThreadPoolExecutor(8) as writers:
        *_, last = writers.map(write, range(40))
    assert len(last.load()[0].endpoints) == 50
    assert list(tmp_path.iterdir()) == [last.path]


def test_a_directory_that_can_not_be_written_costs_a_line_in_the_log(tmp_path, caplog):
    (tmp_path / "taken").write_text("a file")
    kept(tmp_path / "taken")
    assert "the last good list can't be kept" in caplog.text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("10.0.0.1:80", "is one text; give a list"),
        (["10.0.0.1"], "fallback: endpoints"),
        ([LastGood("/a"), LastGood("/b")], "two LastGood"),
    ],
)
def test_a_bad_fallback_is_refused(given, text):
    with pytest.raises(ConfigError, match=text):
        Fallback.of(SERVICE, given, "")
    with pytest.raises(ConfigError, match="endpoints= and fallback= exclude each other"):
        trimtab.insecure_channel("orders", endpoints=[], fallback=given)
    with pytest.raises(ConfigError, match="give a directory, and an age above 0"):
        LastGood("/a", max_age_s=0.0)


def test_the_environment_names_a_directory_unless_the_caller_does():
    assert Fallback.of(SERVICE, None, "/a").last_good == LastGood("/a")
    assert Fallback.of(SERVICE, LastGood("/b"), "/a").last_good == LastGood("/b")
    assert Fallback.of(SERVICE, None, "").last_good is None


class Slow:
    """A watcher that takes its time: it waits for a lock, as a channel does for its balancer's."""

    def __init__(self):
        self.lock, self.told = threading.Lock(), threading.Event()

    def updated(self, _snapshot):
        self.told.set()
        with self.lock:
            pass

    failed = updated


def standing(watcher):
    made = WithFallback(SERVICE, watcher, Fallback.of(SERVICE, ["10.0.0.9:80"], ""), lambda: 0.0)
    made.start(lambda _: Fixed())
    return made


def seated(watcher):
    made = Seated(watcher, "clients.shop:80", "10.0.0.8", None)
    made.start(SERVICE, lambda _name, _watcher: Fixed())
    return made


@pytest.mark.parametrize("made_of", [standing, seated])
def test_to_close_waits_for_no_watcher_since_a_finaliser_may_hold_what_that_waits_for(made_of):
    before = COUNTERS.get("trimtab_client_fallback", SERVICE)
    watcher = Slow()
    made = made_of(watcher)
    inside = threading.Thread(target=made.updated, args=(Snapshot(SERVICE, ()),))
    closer = threading.Thread(target=made.close)
    with watcher.lock:
        inside.start()
        assert watcher.told.wait(20)
        closer.start()
        closer.join(20)
        assert not closer.is_alive()
    inside.join(20)
    assert COUNTERS.get("trimtab_client_fallback", SERVICE) == before
