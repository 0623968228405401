"""A call with ``wait_for_ready=True`` waits for any endpoint, and never for one that is dead."""

import contextlib
import json
import threading
from collections import Counter

import grpc
import pytest

from doors import loop, threads
from doors.killing import kill
from doors.settled import connected
from trimtab import Endpoint, Snapshot

CALLS = 8

# See test_doors.
pytestmark = [
    pytest.mark.processes,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]

DOORS = {**loop.DOORS, "threads": lambda echo: threads.ThreadDoor(echo, threads.ask_late)}
METHODS = ["Say", "Count", "Gather", "Talk"]


@pytest.fixture(params=DOORS)
def door(request, echo):
    made = DOORS[request.param](echo)
    yield made
    made.close()


class Numbers:
    """An iterator of requests, which is read once."""

    def __init__(self, echo, numbers):
        self._left = [echo[0].Request(text=f"{n}") for n in reversed(numbers)]

    def __iter__(self):
        return self

    def __next__(self):
        if not self._left:
            raise StopIteration
        return self._left.pop()


def argument(echo, method, n):
    if method in {"Gather", "Talk"}:
        return Numbers(echo, range(n, n + 3))
    return echo[0].Request(text=f"{n}", replies=1)


def begun(channel, echo, method, n, before=lambda: None):
    """Calls that begin at once, right after ``before``."""
    requests = [argument(echo, method, each) for each in range(n)]

    def begin():
        before()
        stub = channel.stub if hasattr(channel, "run") else None
        return [begin_one(channel, stub, method, request) for request in requests]

    async def on_loop():
        return begin()

    return channel.run(on_loop()) if hasattr(channel, "run") else begin()


def begin_one(channel, stub, method, request):
    if stub is None:
        return channel.begin(method, request, timeout=20, wait_for_ready=True)
    call = getattr(stub, method)(request, timeout=20, wait_for_ready=True)
    return loop.Running(call, channel._loop)


def codes(calls, method):
    for call in calls:
        if method in {"Count", "Talk"}:
            with contextlib.suppress(grpc.RpcError):
                call.rest()
    return Counter(call.code() for call in calls)


@pytest.mark.parametrize("method", METHODS)
def test_calls_of_all_kinds_leave_a_dead_endpoint_again(door, dead, survivor, echo, method):
    process, target = dead
    channel = connected(door.open([survivor.target, target], policy="round_robin"), 2)
    calls = begun(channel, echo, method, CALLS, lambda: kill(process, target, channel))
    assert codes(calls, method) == {grpc.StatusCode.OK: CALLS}
    if method == "Say":
        assert survivor.executions == Counter(f"{n}" for n in range(CALLS))
    assert not any(node.in_flight for node in channel.balancer.nodes.values())


@pytest.mark.parametrize("method", METHODS)
def test_without_any_other_they_wait_for_the_one_that_comes(door, dead, survivor, echo, method):
    process, target = dead
    channel = door.open(None, policy="round_robin")
    channel.update(Snapshot("orders.shop:80", (endpoint(target),)))
    connected(channel, 1)
    calls = begun(channel, echo, method, 2, lambda: kill(process, target, channel))
    channel.update(Snapshot("orders.shop:80", (endpoint(survivor.target),)))
    assert codes(calls, method) == {grpc.StatusCode.OK: 2}


def test_where_all_die_at_once_they_wait_for_one_to_come_back(door, victims, echo):
    killed = [victims.start() for _ in range(2)]
    targets = [f"127.0.0.1:{port}" for _process, port in killed]
    channel = connected(door.open(targets, policy="round_robin"), 2)

    def kill_all():
        for (process, _port), target in zip(killed, targets, strict=True):
            kill(process, target, channel)

    calls = begun(channel, echo, "Say", CALLS, kill_all)
    for _process, port in killed:
        victims.start(port)
    assert codes(calls, "Say") == {grpc.StatusCode.OK: CALLS}
    assert not any(node.in_flight for node in channel.balancer.nodes.values())


def test_a_blocking_call_does_not_wait_for_a_dead_endpoint_either(dead, survivor, echo):
    process, target = dead
    door = threads.ThreadDoor(echo, threads.ask_late)
    try:
        channel = door.open(None, policy="round_robin")
        channel.update(Snapshot("orders.shop:80", (endpoint(target),)))
        connected(channel, 1)
        kill(process, target, channel)
        replies = []

        def ask():
            request = echo[0].Request(text="x")
            replies.append(channel.say(request, timeout=20, wait_for_ready=True).server)

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        channel.update(Snapshot("orders.shop:80", (endpoint(target), endpoint(survivor.target))))
        asking.join(25)
        assert replies == ["a"]
    finally:
        door.close()


def planned(**method):
    config = {"methodConfig": [{"name": [{}], **method}]}
    return [("grpc.service_config", json.dumps(config))]


@pytest.mark.parametrize("method", METHODS)
def test_the_service_config_says_whether_calls_wait_and_for_how_long(door, echo, method):
    options = planned(waitForReady=True, timeout="0.3s")
    channel = door.open(["127.0.0.1:1"], options=options)
    call = channel.begin(method, argument(echo, method, 0))
    assert codes([call], method) == {grpc.StatusCode.DEADLINE_EXCEEDED: 1}
    unwilling = channel.begin(method, argument(echo, method, 0), timeout=20, wait_for_ready=False)
    assert codes([unwilling], method) == {grpc.StatusCode.UNAVAILABLE: 1}


def test_the_service_config_limits_what_a_blocking_call_waits(echo):
    door = threads.ThreadDoor(echo, threads.ask_late)
    try:
        channel = door.open(["127.0.0.1:1"], options=planned(timeout="0.3s"))
        with pytest.raises(grpc.RpcError) as raised:
            channel.say(echo[0].Request(text="x"), wait_for_ready=True)
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    finally:
        door.close()


def endpoint(target):
    host, _, port = target.rpartition(":")
    return Endpoint(host, int(port))
