"""Servers that leave a connection under load, with GOAWAY: what they have not looked at is made again."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from doors import loop, threads
from doors.leaver import Leaver

DOORS = {**threads.DOORS, **loop.DOORS}
CALLERS = 8
CALLS = 100  # of each

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


def test_no_call_fails_that_a_leaving_server_has_not_looked_at(door, scripted, echo):
    messages, _ = echo
    reply = messages.Reply(server="leaver").SerializeToString()
    leaver = Leaver(
        lambda exchange: exchange.answer(reply),
        lambda body: messages.Request.FromString(body[5:]).text,
    )
    channel = door.open([scripted(leaver).target for _ in range(3)])
    channel.ready()
    failed = {}

    def load(caller):
        for n in range(CALLS):
            name = f"{caller} {n}"
            try:
                channel.say(messages.Request(text=name), timeout=20)
            except grpc.RpcError as error:
                failed[name] = error

    with ThreadPoolExecutor(CALLERS) as callers:
        list(callers.map(load, range(CALLERS)))
    assert failed == {}
    assert set(leaver.executions.values()) == {1}
    assert leaver.executions.total() == CALLERS * CALLS
    assert leaver.farewells > 3  # a connection that was made anew was left as well
    assert leaver.unread  # and those were made again
