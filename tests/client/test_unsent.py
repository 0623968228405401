"""A call that finds its endpoint dead before it could leave goes elsewhere, whatever it does."""

import contextlib
from collections import Counter

import grpc
import pytest

from doors import loop, recording, threads
from doors.killing import kill
from harness.waiting import eventually
from trimtab import Retry
from trimtab.policies import Outcome

CALLS = 8

# See test_doors.
pytestmark = [
    pytest.mark.processes,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


LATE = {**loop.DOORS, "threads": lambda echo: threads.ThreadDoor(echo, threads.ask_late)}


def connected(channel, n):
    eventually(
        lambda: sum(node.connected for node in channel.balancer.nodes.values()) == n,
        within=15,
        what=f"{n} are connected",
    )


@pytest.fixture
def late(echo):
    made = threads.ThreadDoor(echo, threads.ask_late)
    yield made
    made.close()


@pytest.mark.parametrize("between", [[], [threads.Retry(1, [])]], ids=["straight", "intercepted"])
@pytest.mark.parametrize("retry", [None, Retry(attempts=1)], ids=["undeclared", "declared"])
def test_a_blocking_call_that_reached_nobody_leaves_again(
    late, dead, survivor, echo, retry, between
):
    process, target = dead
    channel = late.open(
        [survivor.target, target], policy="round_robin", retry=retry, interceptors=between
    )
    connected(channel, 2)
    kill(process, target, channel)
    replies = [channel.say(echo[0].Request(text=f"{n}"), timeout=10) for n in range(CALLS)]
    assert {reply.server for reply in replies} == {"a"}
    assert survivor.executions == Counter(f"{n}" for n in range(CALLS))
    assert next(n for n in channel.balancer.nodes.values() if n.endpoint.target == target).errors
    assert not any(node.in_flight for node in channel.balancer.nodes.values())


def test_a_blocking_call_whose_request_is_a_stream_does_not(late, dead, survivor, echo):
    process, target = dead
    channel = late.open([survivor.target, target], policy="round_robin")
    connected(channel, 2)
    kill(process, target, channel)
    codes = []
    for _ in range(CALLS):
        try:
            channel.gather([echo[0].Request(text="x")], timeout=10)
        except grpc.RpcError as error:
            codes.append(error.code())
    assert codes == [grpc.StatusCode.UNAVAILABLE]


@pytest.mark.parametrize("kind", loop.DOORS)
@pytest.mark.parametrize("arity", ["Say", "Count"])
def test_a_declared_asyncio_call_that_reached_nobody_leaves_again(
    kind, dead, survivor, echo, arity
):
    process, target = dead
    door = loop.DOORS[kind](echo)
    try:
        channel = door.open(
            [survivor.target, target], policy="round_robin", retry=Retry(attempts=1)
        )
        connected(channel, 2)

        async def ask(request):
            if arity == "Say":
                return await channel.stub.Say(request, timeout=10)
            (reply,) = [reply async for reply in channel.stub.Count(request, timeout=10)]
            return reply

        async def kill_and_call():
            kill(process, target, channel)
            return [await ask(echo[0].Request(text=f"{n}", replies=1)) for n in range(CALLS)]

        replies = channel.run(kill_and_call())
    finally:
        door.close()
    assert {reply.server for reply in replies} == {"a"}
    if arity == "Say":
        assert survivor.executions == Counter(f"{n}" for n in range(CALLS))


@pytest.mark.parametrize("itself", [False, True], ids=["another", "itself"])
def test_a_server_that_passes_on_what_befell_a_call_of_its_own_has_executed_this_one(
    late, dead, survivor, echo, itself
):
    _, target = dead
    channel = late.open([survivor.target, target], policy="round_robin")
    connected(channel, 2)
    survivor.words = (
        "failed to connect to all addresses; last error: UNKNOWN: "
        f"ipv4:{survivor.target if itself else target}: "
        "Failed to connect to remote host: Connection refused"
    )
    errors = 0
    for n in range(CALLS):
        try:
            channel.say(echo[0].Request(text=f"{n}"), timeout=10)
        except grpc.RpcError:
            errors += 1
    assert errors == survivor.executions.total()
    assert max(survivor.executions.values(), default=0) <= 1
    assert errors


@pytest.mark.parametrize("kind", LATE)
@pytest.mark.parametrize("method", ["Say", "Count"])
def test_a_connection_that_did_not_come_about_is_told_apart_from_a_failure(
    kind, dead, survivor, echo, method
):
    process, target = dead
    door = LATE[kind](echo)
    try:
        with recording.recorded() as ends:
            channel = door.open([survivor.target, target], policy=recording.NAME)
            connected(channel, 2)
            request = echo[0].Request(text="x", replies=1)
            begin_all(channel, lambda: kill(process, target, channel), method, request)
    finally:
        door.close()
    there = {outcome: n for (at, outcome), n in ends.items() if at == target}
    there.pop(Outcome.CANCELLED, None)  # picks that were taken back
    assert there.keys() == {Outcome.UNREACHED}
    assert next(n for n in channel.balancer.nodes.values() if n.endpoint.target == target).errors


def begin_all(channel, kill_it, method, request):
    """Calls that leave after the server's death and before a loop has heard of it, all to their end."""
    if not hasattr(channel, "run"):
        kill_it()
        calls = [channel.begin(method, request, timeout=10) for _ in range(CALLS)]
        for call in calls:
            call.code()
        return

    async def all_of_them():
        kill_it()
        calls = [getattr(channel.stub, method)(request, timeout=10) for _ in range(CALLS)]
        for call in calls:
            with contextlib.suppress(grpc.RpcError):
                if method == "Say":
                    await call
                else:
                    assert [_ async for _ in call]

    channel.run(all_of_them())
