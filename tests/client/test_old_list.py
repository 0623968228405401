"""Half of the pods are gone and the list doesn't say so: the control plane is away."""

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from doors import loop, threads
from harness.waiting import eventually

DOORS = {**threads.DOORS, **loop.DOORS}
CALLERS = 8

# See test_doors.
pytestmark = [
    pytest.mark.processes,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


@pytest.mark.parametrize("kind", DOORS)
def test_while_half_of_the_list_is_gone_no_call_fails_but_those_in_flight(kind, servers, echo):
    a, b, *_ = four = servers.open("a", "b", "c", "d")
    door = DOORS[kind](echo)
    channel = door.open([s.target for s in four])
    over, replies, errors = threading.Event(), [], []

    def load():
        while not over.is_set():
            try:
                replies.append(channel.say(echo[0].Request(), timeout=10).server)
            except grpc.RpcError as error:
                errors.append(error.code())

    def connected():
        return sum(node.connected for node in channel.balancer.nodes.values())

    def goes_on(calls):
        begin = len(replies)
        eventually(lambda: len(replies) > begin + calls, within=30, what=f"{calls} calls more")
        return replies[begin + CALLERS :]

    with ThreadPoolExecutor(CALLERS) as callers:
        running = [callers.submit(load) for _ in range(CALLERS)]
        try:
            eventually(lambda: set(replies) == set("abcd"), within=15, what="all have load")
            a.stop()
            b.stop()
            eventually(lambda: connected() == 2, within=20, what="both are known to be gone")
            goes_on(CALLERS)  # who was in flight has heard of it
            failed = len(errors)
            assert failed <= 2 * CALLERS  # each caller had one call on each, at most
            assert set(goes_on(500)) == {"c", "d"}
            assert len(errors) == failed
        finally:
            over.set()
            for caller in running:
                caller.result()
            door.close()
