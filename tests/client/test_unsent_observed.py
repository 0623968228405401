"""A call that reached nobody and left again is one call of several attempts to whoever watches (gRFC A66)."""

import asyncio

import pytest

import trimtab
from doors import threads
from doors.killing import kill
from doors.loop import LoopDoor
from harness.waiting import eventually
from trimtab.client.aio_picking import PickingChannel

CALLS = 8
SERVICE, METHOD = "orders.shop:80", "trimtab.test.Echo/Say"

# See test_doors.
pytestmark = [
    pytest.mark.processes,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


def blocking(channel, kill_it, texts, request):
    kill_it()
    details = []
    for text in texts:
        with trimtab.call_details() as found:
            channel.say(request(text=text), timeout=10)
        details.append(found)
    return details


def on_a_loop(channel, kill_it, texts, request):
    async def one(text):
        with trimtab.call_details() as found:
            await channel.stub.Say(request(text=text), timeout=10)
        return found

    async def kill_and_call():
        kill_it()
        return await asyncio.gather(*(one(text) for text in texts))

    return channel.run(kill_and_call())


DOORS = {
    "threads": (lambda echo: threads.ThreadDoor(echo, threads.ask_late), blocking),
    "loop": (lambda echo: LoopDoor(echo, PickingChannel), on_a_loop),
}


def after_a_kill(kind, dead, survivor, echo):
    """The details of calls that leave once one of two servers is dead."""
    make, ask = DOORS[kind]
    process, target = dead
    door = make(echo)
    try:
        channel = door.open([survivor.target, target], policy="round_robin")
        eventually(
            lambda: sum(n.connected for n in channel.balancer.nodes.values()) == 2,
            within=15,
            what="both are connected",
        )
        texts = [f"{n}" for n in range(CALLS)]
        return ask(channel, lambda: kill(process, target, channel), texts, echo[0].Request)
    finally:
        door.close()


@pytest.mark.parametrize("kind", DOORS)
def test_it_is_one_call_of_two_attempts(kind, registry, otel, dead, survivor, echo):
    _, target = dead
    details = after_a_kill(kind, dead, survivor, echo)
    again = [found for found in details if len(found) > 1]
    assert again
    for found in details:
        seen = [(each.endpoint.target, each.number, each.status) for each in found]
        lost = [(target, 1, "UNAVAILABLE")] if found in again else []
        assert seen == [*lost, (survivor.target, 1 + len(lost), "OK")]

    def told(name, **labels):
        where = {"grpc_target": SERVICE, "grpc_method": METHOD, **labels}
        return registry.get_sample_value(name, where)

    calls, attempts = (f"grpc_client_{what}_duration_seconds_count" for what in ("call", "attempt"))
    assert told("grpc_client_attempt_started_total") == CALLS + len(again)
    assert told(attempts, grpc_status="UNAVAILABLE", grpc_lb_locality="") == len(again)
    assert told(attempts, grpc_status="OK", grpc_lb_locality="") == CALLS
    assert told(calls, grpc_status="OK") == CALLS
    assert told(calls, grpc_status="UNAVAILABLE") is None

    assert [
        (p.attributes["grpc.status"], p.count) for p in otel.points("grpc.client.call.duration")
    ] == [("OK", CALLS)]
    spans = [
        (s.attributes["trimtab.attempt"], s.attributes["rpc.response.status_code"])
        for s in otel.spans()
    ]
    assert spans.count((1, "UNAVAILABLE")) == spans.count((2, "OK")) == len(again)
    assert len(spans) == CALLS + len(again)


@pytest.mark.parametrize("kind", DOORS)
def test_its_time_is_that_of_all_its_attempts(kind, registry, dead, survivor, echo):
    after_a_kill(kind, dead, survivor, echo)

    def seconds(of, *statuses, **labels):
        where = {"grpc_target": SERVICE, "grpc_method": METHOD, **labels}
        name = f"grpc_client_{of}_duration_seconds_sum"
        return sum(registry.get_sample_value(name, {**where, "grpc_status": s}) for s in statuses)

    attempts = seconds("attempt", "OK", "UNAVAILABLE", grpc_lb_locality="")
    assert attempts <= seconds("call", "OK") < attempts + 1
