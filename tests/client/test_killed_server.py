"""A server process that is killed under load, and comes back on its port."""

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from doors import loop, threads
from doors.servers import Servers
from doors.victim import Victims
from harness.ports import free_port
from harness.waiting import eventually

DOORS = {**threads.DOORS, **loop.DOORS}
CALLERS = 8

# See test_doors.
pytestmark = [
    pytest.mark.processes,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


@pytest.fixture(params=DOORS)
def door(request, echo):
    made = DOORS[request.param](echo)
    yield made
    made.close()


@pytest.fixture
def start(echo):
    """Start the victim; its process and port."""
    victims = Victims(echo)
    yield victims.start
    victims.close()


@pytest.fixture
def survivors(echo):
    servers = Servers(echo)
    yield servers.open("a", "b")
    servers.close()


def test_only_calls_in_flight_on_a_killed_server_fail_and_it_is_used_again(
    door, start, survivors, echo
):
    victim, port = start(free_port())  # the same again
    request = echo[0].Request
    channel = door.open([*(s.target for s in survivors), f"127.0.0.1:{port}"])
    connections(channel, 3)
    streams = held_by_victim(channel, request)
    stop, replies, errors = threading.Event(), [], []

    def load():
        while not stop.is_set():
            try:
                replies.append(channel.say(request(), timeout=10).server)
            except grpc.RpcError as error:
                errors.append(error)

    with ThreadPoolExecutor(CALLERS) as callers:
        running = [callers.submit(load) for _ in range(CALLERS)]
        try:
            eventually(lambda: "victim" in replies, within=15, what="the victim has load")
            victim.kill()
            connections(channel, 2)
            assert [stream.code() for stream in streams] == [grpc.StatusCode.UNAVAILABLE]
            # Each caller had at most one call on the victim; those that follow go elsewhere.
            failed, served = len(errors), len(replies)
            eventually(lambda: len(replies) > served + 200, within=30, what="200 calls more")
            assert failed <= CALLERS
            assert len(errors) - failed <= CALLERS  # noticed by their callers only now
            assert all(e.code() is grpc.StatusCode.UNAVAILABLE for e in errors)
            settled, served = len(errors), len(replies)
            eventually(lambda: len(replies) > served + 200, within=30, what="200 calls more")
            assert len(errors) == settled
            assert "victim" not in replies[served + CALLERS :]
            start(port)
            connections(channel, 3, within=30)
            served = len(replies)
            eventually(lambda: "victim" in replies[served:], within=15, what="it is used again")
            assert len(errors) == settled
        finally:
            stop.set()
            for caller in running:
                caller.result()
    assert len(errors) <= CALLERS
    eventually(lambda: channel.balancer.in_flight == 0, within=10, what="nothing in flight")


def connections(channel, n, within=10):
    def count():
        return sum(node.connected for node in channel.balancer.nodes.values()) == n

    eventually(count, within=within, what=f"{n} endpoints connected")


def held_by_victim(channel, request):
    """One stream that is under way on the victim; those elsewhere end by themselves."""
    while True:
        stream = channel.begin("Count", request(replies=1))
        if stream.first().server == "victim":
            return [stream]
        stream.rest()
