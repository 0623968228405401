"""A stream that is given up unread and collected in the middle of a choice, as garbage is, disturbs nobody."""

import asyncio
import gc
from random import Random

import grpc
import grpc.experimental
import pytest

import trimtab
from harness.waiting import eventually
from trimtab import policies
from trimtab.client.grpc_aio import insecure_channel
from trimtab.policies.round_robin import RoundRobin

pytestmark = pytest.mark.processes


class Collected(RoundRobin):
    """Garbage is collected in the middle of each choice."""

    def __init__(self, random):
        super().__init__(random)
        self.choosing = False
        self.ends = []

    def pick(self, now, key=None):
        self.choosing = True
        gc.collect()
        self.choosing = False
        return super().pick(now, key)

    def done(self, node, outcome, latency, now, report):
        self.ends.append((outcome, self.choosing))
        super().done(node, outcome, latency, now, report)


@pytest.fixture
def collected(uncollected):
    policy = Collected(Random(1))
    policies.register("collected")(lambda _params, _random: policy)
    yield policy
    del policies._registry["collected"]


def test_it_is_counted_as_ended_after_the_choice_in_threads(servers, echo, collected):
    server = servers.open("a")
    messages, stubs = echo
    one_thread = [(grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1)]
    with trimtab.insecure_channel(
        "orders", one_thread, endpoints=[server.target], policy="collected"
    ) as channel:
        grpc.channel_ready_future(channel).result(20)
        stub = stubs.EchoStub(channel)
        stream = [stub.Count(messages.Request(replies=2, hold=True))]
        next(stream[0])
        stream.append(stream)
        del stream
        assert channel.trimtab.in_flight == 1
        stub.Say(messages.Request(), timeout=10)
        eventually(lambda: channel.trimtab.in_flight == 0, within=20, what="it ended")
    assert sorted(collected.ends, key=str) == [
        (policies.Outcome.CANCELLED, False),
        (policies.Outcome.SUCCESS, False),
    ]


async def test_it_is_counted_as_ended_after_the_choice(servers, echo, collected):
    server = servers.open("a")
    messages, stubs = echo
    async with insecure_channel("orders", endpoints=[server.target], policy="collected") as channel:
        await channel.channel_ready()
        stub = stubs.EchoStub(channel)
        async for _ in stub.Count(messages.Request(replies=2, hold=True)):
            break
        assert channel.trimtab.in_flight == 1
        await stub.Say(messages.Request())
        await asyncio.to_thread(
            eventually, lambda: channel.trimtab.in_flight == 0, within=20, what="it ended"
        )
    assert sorted(collected.ends, key=str) == [
        (policies.Outcome.CANCELLED, False),
        (policies.Outcome.SUCCESS, False),
    ]
