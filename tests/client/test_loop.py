"""What only the asyncio door promises."""

import asyncio
import gc

import grpc
import grpc.aio
import pytest

import trimtab
import trimtab.aio
from harness.waiting import eventually
from trimtab.client.aio_picking import PickingChannel, missing_hook, outcome_of
from trimtab.client.grpc_aio import insecure_channel
from trimtab.policies import Outcome

WITHIN_S = 10


def dead_end(target):
    return insecure_channel("orders", endpoints=[target])


@pytest.fixture
def ask(echo):
    return echo[0].Request


@pytest.fixture
def stub_of(echo):
    return echo[1].EchoStub


async def test_this_grpcio_has_the_hooks_and_they_are_used():
    assert missing_hook() == ""
    async with insecure_channel("orders", endpoints=[]) as channel:
        assert isinstance(channel, PickingChannel)
        assert isinstance(channel, grpc.aio.Channel)


async def test_calls_are_grpcs_own_objects(servers, ask, stub_of):
    async with trimtab.aio.insecure_channel(
        "orders", endpoints=[servers.open("a").target]
    ) as channel:
        stub = stub_of(channel)
        waiting = stub.Say(ask(), timeout=5)
        assert isinstance(waiting, grpc.aio.UnaryUnaryCall | grpc.aio.InterceptedUnaryUnaryCall)
        await waiting
        call = stub.Say(ask(), timeout=5)
        native = grpc.aio.insecure_channel("127.0.0.1:1").unary_unary("/x/y")(b"")
        assert isinstance(call, type(native))
        native.cancel()
        assert 0 < call.time_remaining() <= 5
        await call


async def test_close_lets_calls_end_within_the_grace(servers, ask, stub_of):
    server = servers.open("a")
    channel = trimtab.aio.insecure_channel("orders", endpoints=[server.target])
    await channel.channel_ready()
    call = stub_of(channel).Say(ask(text="x", hold=True))
    closing = asyncio.create_task(channel.close(grace=8))
    await asyncio.to_thread(
        eventually, lambda: server.received == 1, within=20, what="the request arrived"
    )
    assert not closing.done()
    server.let_go.set()
    assert (await call).text == "x"
    await closing
    assert channel.trimtab.in_flight == 0


async def test_close_cancels_what_outlasts_the_grace(servers, ask, stub_of):
    server = servers.open("a")
    channel = trimtab.aio.insecure_channel("orders", endpoints=[server.target])
    await channel.channel_ready()
    call = stub_of(channel).Say(ask(hold=True))
    await channel.close(grace=0.1)
    assert call.cancelled()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert channel.trimtab.in_flight == 0


async def test_a_dropped_unary_call_runs_to_its_end(servers, ask, stub_of):
    server = servers.open("a")
    async with trimtab.aio.insecure_channel("orders", endpoints=[server.target]) as channel:
        await channel.channel_ready()
        stub_of(channel).Say(ask())
        gc.collect()
        await asyncio.to_thread(
            eventually, lambda: channel.trimtab.in_flight == 0, within=20, what="it ended"
        )
    assert server.received == 1


async def test_wait_for_closes_the_count(servers, ask, stub_of):
    server = servers.open("a")
    async with trimtab.aio.insecure_channel("orders", endpoints=[server.target]) as channel:
        await channel.channel_ready()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stub_of(channel).Say(ask(hold=True)), 0.05)
        assert channel.trimtab.in_flight == 0


def test_a_cancellation_that_nobody_asked_for_counts_as_a_failure():
    """A call racing a GOAWAY ends as CANCELLED although its caller did not cancel."""

    class Call:
        def __init__(self, cancelled):
            self._cancelled = cancelled

        def is_locally_cancelled(self):
            return self._cancelled

    assert outcome_of(1, Call(cancelled=False)) is Outcome.FAILURE
    assert outcome_of(1, Call(cancelled=True)) is Outcome.CANCELLED


@pytest.mark.parametrize("make", [grpc.aio.insecure_channel, dead_end], ids=["native", "trimtab"])
async def test_who_waits_for_a_channel_s_state_is_told_that_it_was_closed(make):
    channel = make("127.0.0.1:1")
    waiting = asyncio.create_task(channel.channel_ready())
    await asyncio.wait([waiting], timeout=0)
    await channel.close()
    for late in (
        waiting,
        channel.channel_ready(),
        channel.wait_for_state_change(grpc.ChannelConnectivity.READY),
    ):
        with pytest.raises(grpc.aio.UsageError, match=r"Channel is closed\."):
            await asyncio.wait_for(late, WITHIN_S)
    assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


@pytest.mark.parametrize("arity", ["unary_unary", "unary_stream"])
async def test_a_declared_call_of_a_closed_channel_is_refused_where_it_is_made(servers, arity):
    retry = trimtab.Retry(attempts=2)
    channel = insecure_channel("orders", endpoints=[servers.open("a").target], retry=retry)
    call = getattr(channel, arity)("/trimtab.test.Echo/Say")
    await channel.channel_ready()
    await channel.close()
    with pytest.raises(grpc.aio.UsageError, match=r"Channel is closed\."):
        call(b"")


class Passed(grpc.aio.UnaryStreamClientInterceptor):
    """Does nothing, so that gRPC's call is an intercepted one."""

    async def intercept_unary_stream(self, continuation, client_call_details, request):
        return await continuation(client_call_details, request)


async def read_of(call):
    """What the calls of ``read`` bring, one of them cut off by a time limit."""
    brought = []
    for limit in (WITHIN_S, 0.05, WITHIN_S, WITHIN_S):
        try:
            message = await asyncio.wait_for(call.read(), limit)
            brought.append("EOF" if message is grpc.aio.EOF else "message")
        except (TimeoutError, grpc.aio.AioRpcError, asyncio.CancelledError) as error:
            brought.append(type(error).__name__)
    with pytest.raises(NotImplementedError):
        call.time_remaining()
    return brought, await call.code()


async def test_a_declared_stream_behaves_as_grpcs_own_through_an_interceptor(servers, ask):
    """The guide says so: ``read`` after a cancelled ``read``, and ``time_remaining``."""
    target = servers.open("a").target
    request = ask(replies=1, hold=True).SerializeToString()
    found = []
    for channel in (
        grpc.aio.insecure_channel(target, interceptors=[Passed()]),
        insecure_channel("orders", endpoints=[target], retry=trimtab.Retry(attempts=2)),
    ):
        async with channel:
            call = channel.unary_stream("/trimtab.test.Echo/Count")(request, timeout=WITHIN_S)
            found.append(await read_of(call))
    native, ours = found
    assert ours == native
    assert ours == (["message", "TimeoutError", "EOF", "EOF"], grpc.StatusCode.CANCELLED)
