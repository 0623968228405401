"""A server that fails a part of its requests gets less of them, over gRPC."""

from itertools import count

import grpc
import pytest

from doors import loop, threads
from doors.settled import connected

DOORS = {**threads.DOORS, **loop.DOORS}
CALLS = 600

# See test_doors.
pytestmark = [
    pytest.mark.processes,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


@pytest.mark.parametrize("kind", DOORS)
def test_a_server_that_fails_a_fifth_of_its_requests_gets_some_but_less_than_half_its_share(
    kind, scripted, servers, echo
):
    reply = echo[0].Reply(server="bad").SerializeToString()
    seen = count(1)

    def respond(exchange):
        if next(seen) % 5:
            exchange.answer(reply)
        else:
            exchange.begin()
            exchange.end([("grpc-status", "14")])

    bad, good = scripted(respond), servers.open("a", "b")
    door = DOORS[kind](echo)
    try:
        made = door.open([bad.target, *(s.target for s in good)], policy="round_robin")
        channel = connected(made, 3)
        failed, served = 0, []
        for _ in range(CALLS):
            try:
                served.append(channel.say(echo[0].Request(), timeout=15).server)
            except grpc.RpcError:
                failed += 1
    finally:
        door.close()
    there = failed + served.count("bad")
    assert failed == there // 5
    # Its fair share is a third. Of what succeeds, to the eighth power, 0.8 / 0.933 leave 0.29 of it.
    assert CALLS / 50 < there < CALLS / 6
    assert min(served.count(s.name) for s in good) > CALLS / 3
