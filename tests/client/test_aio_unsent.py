"""An asyncio call of which nothing is declared leaves again if it reached nobody, and is one call all the time."""

import asyncio
from collections import Counter

import grpc
import pytest

from doors.killing import kill
from doors.loop import LoopDoor
from doors.settled import connected
from harness.waiting import eventually, pause
from trimtab.client import aio_picking
from trimtab.client.aio_picking import PickingChannel, PickingLink
from trimtab.model import Snapshot

CALLS = 8
READY = grpc.ChannelConnectivity.READY

pytestmark = pytest.mark.processes


@pytest.fixture
def door(echo):
    made = LoopDoor(echo, PickingChannel)
    yield made
    made.close()


def opened(door, *targets):
    return connected(door.open(targets, policy="round_robin"), len(targets))


async def seen(call, told, executions=int):
    """All that can be seen of a call's end while it is under way: asked for before that is known."""
    call.add_done_callback(lambda ended: told.append((ended, ended.done(), executions())))
    code, details, initial, trailing, _ = await asyncio.gather(
        call.code(),
        call.details(),
        call.initial_metadata(),
        call.trailing_metadata(),
        call.debug_error_string(),
    )
    return code, details, initial, trailing


class DeafLink(PickingLink):
    """A connection whose end is heard of late: once there, it is."""

    __slots__ = ("was",)

    def state(self):
        now = super().state()
        self.was = getattr(self, "was", False) or now is READY
        return READY if self.was else now


@pytest.mark.parametrize("link", [PickingLink, DeafLink], ids=["one", "several"])
def test_it_leaves_again_and_nobody_sees_the_end_of_those_before(
    door, survivor, echo, victims, link, monkeypatch
):
    monkeypatch.setattr(aio_picking, "PickingLink", link)
    started = [victims.start() for _ in range(3)]
    dead = [f"127.0.0.1:{port}" for _, port in started]
    channel = opened(door, *dead, survivor.target)

    async def kill_and_call():
        for (process, _), target in zip(started, dead, strict=True):
            kill(process, target, channel)
        # All leave before the loop can hear of it.
        calls = [channel.stub.Say(echo[0].Request(text=f"{n}"), timeout=10) for n in range(CALLS)]
        return await asyncio.gather(*(follow(n, call) for n, call in enumerate(calls)))

    async def follow(n, call):
        assert isinstance(call, grpc.aio.UnaryUnaryCall)
        told = []
        sight = asyncio.ensure_future(seen(call, told, lambda: survivor.executions[f"{n}"]))
        reply = await call
        code, *_ = await sight
        assert 0 < call.time_remaining() <= 10
        return reply.server, code, told == [(call, True, 1)], call.done()

    assert set(channel.run(kill_and_call())) == {("a", grpc.StatusCode.OK, True, True)}
    assert survivor.executions == Counter(f"{n}" for n in range(CALLS))
    errors = {n.endpoint.target: n.errors for n in channel.balancer.nodes.values()}
    assert errors.pop(survivor.target) == 0
    assert sum(errors.values()) > 0
    assert not any(node.in_flight for node in channel.balancer.nodes.values())


def test_it_leaves_again_where_its_endpoint_has_left_meanwhile(door, dead, survivor, echo):
    process, target = dead
    channel = opened(door, survivor.target, target)
    staying = tuple(
        node.endpoint
        for node in channel.balancer.nodes.values()
        if node.endpoint.target == survivor.target
    )

    async def kill_and_call():
        kill(process, target, channel)
        calls = [channel.stub.Say(echo[0].Request(text=f"{n}"), timeout=10) for n in range(CALLS)]
        channel.raw._cluster._update(Snapshot("orders.shop:80", staying))
        return [(await call).server for call in calls]

    assert channel.run(kill_and_call()) == ["a"] * CALLS
    assert survivor.executions == Counter(f"{n}" for n in range(CALLS))


def test_where_no_other_endpoint_is_connected_its_end_is_the_callers(door, dead, echo):
    process, target = dead
    channel = opened(door, target)

    async def kill_and_call():
        kill(process, target, channel)
        told = []
        call = channel.stub.Say(echo[0].Request(text="x"), timeout=10)
        sight = asyncio.ensure_future(seen(call, told))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        code, details, *_ = await sight
        assert told == [(call, True, 0)]
        return caught.value, code, details

    error, code, details = channel.run(kill_and_call())
    assert error.code() is code is grpc.StatusCode.UNAVAILABLE
    assert error.details() == details
    assert not any(node.in_flight for node in channel.balancer.nodes.values())


@pytest.mark.parametrize("itself", [False, True], ids=["another", "itself"])
def test_a_server_that_passes_on_what_befell_a_call_of_its_own_has_executed_this_one(
    door, dead, survivor, echo, itself
):
    process, target = dead
    channel = opened(door, survivor.target, target)
    if not itself:
        process.kill()  # so that the channel to the address in the text is cut
        eventually(
            lambda: sum(n.connected for n in channel.balancer.nodes.values()) == 1,
            within=15,
            what="it is known to be dead",
        )
    survivor.words = (
        "failed to connect to all addresses; last error: UNKNOWN: "
        f"ipv4:{survivor.target if itself else target}: "
        "Failed to connect to remote host: Connection refused"
    )

    async def call():
        errors = 0
        for n in range(CALLS):
            try:
                await channel.stub.Say(echo[0].Request(text=f"{n}"), timeout=10)
            except grpc.aio.AioRpcError:
                errors += 1
        return errors

    assert channel.run(call()) == survivor.executions.total() > 0
    assert max(survivor.executions.values()) == 1


def test_one_that_is_cancelled_or_whose_channel_is_closed_does_not(door, servers, echo):
    holding = servers.open("a")
    channel = opened(door, holding.target)

    async def cancel():
        call = channel.stub.Say(echo[0].Request(text="x", hold=True), timeout=10)
        told = []
        call.add_done_callback(told.append)
        while not holding.received:
            await asyncio.to_thread(pause)
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await call.code() is grpc.StatusCode.CANCELLED
        assert call.cancelled()
        assert told == [call]
        late = channel.stub.Say(echo[0].Request(text="y", hold=True), timeout=10)
        await channel.raw.close()
        with pytest.raises(asyncio.CancelledError):
            await late

    channel.run(cancel())
    assert holding.received <= 2
    assert not any(node.in_flight for node in channel.balancer.nodes.values())
