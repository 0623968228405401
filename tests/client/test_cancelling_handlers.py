"""A signal handler that cancels the call whose answer the main thread waits for, as gRPC's own examples have it."""

import contextlib
import signal
import threading

import grpc
import pytest

import trimtab
from harness.stepping import at_one_line_after_the_other
from harness.waiting import eventually
from trimtab import Retry
from trimtab.client import (
    alarms,
    attempted_call,
    connectivity_callbacks,
    ended_call,
    sync_calls,
    sync_cluster,
    unsettled_call,
    wakeup,
)

pytestmark = pytest.mark.processes
MODULES = (attempted_call, ended_call, unsettled_call, wakeup)


@pytest.fixture
def raising():
    """Raises a signal; ``handled`` is what its handler does."""
    does = []
    before = signal.signal(signal.SIGUSR1, lambda *_: does[-1]())

    def raise_it(handled):
        does.append(handled)
        return lambda: signal.raise_signal(signal.SIGUSR1)

    yield raise_it
    signal.signal(signal.SIGUSR1, before)


@contextlib.contextmanager
def ending(end):
    """Yields what a handler does, which is to ``end``; where it comes in between nothing, somebody else does."""
    handled, over = [], threading.Event()

    def end_after_all():
        if not over.wait(0.3) and not handled:
            end()

    def handle():
        handled.append(True)
        end()

    other = threading.Thread(target=end_after_all, daemon=True)
    other.start()
    try:
        yield handle
    finally:
        over.set()
        other.join()


@pytest.mark.parametrize("how", ["an endpoint", "nobody yet"])
@pytest.mark.parametrize("kind", ["future", "stream"])
def test_ends_the_wait_whichever_step_of_it_it_comes_in_between(servers, echo, raising, how, kind):
    messages, stubs = echo
    server = servers.open("a")
    target = server.target if how == "an endpoint" else "127.0.0.1:1"
    retry = Retry(attempts=2) if how == "an endpoint" else None

    def run(interrupted):
        request = messages.Request(hold=True)
        if kind == "future":
            call = stub.Say.future(request, timeout=60, wait_for_ready=True)
        else:
            call = stub.Count(request, timeout=60, wait_for_ready=True)
        with (
            ending(call.cancel) as handle,
            interrupted(raising(handle)),
            pytest.raises((grpc.RpcError, grpc.FutureCancelledError)),
        ):
            call.result(timeout=20) if kind == "future" else next(call)
        assert call.code() is grpc.StatusCode.CANCELLED

    with trimtab.insecure_channel("orders.shop:80", endpoints=[target], retry=retry) as channel:
        if how == "an endpoint":
            grpc.channel_ready_future(channel).result(20)
        stub = stubs.EchoStub(channel)
        assert at_one_line_after_the_other(run, *MODULES) > 10
        eventually(lambda: channel.trimtab.in_flight == 0, within=20, what="all of them ended")


CLOSED = (grpc.RpcError, grpc.FutureCancelledError, ValueError)


@pytest.mark.parametrize("waits", ["for an endpoint", "for another attempt"])
def test_a_handler_that_closes_the_channel_ends_the_wait_likewise(servers, echo, raising, waits):
    messages, stubs = echo
    target = "127.0.0.1:1" if waits == "for an endpoint" else servers.open("a").target
    request = messages.Request(fail_with=14)
    retry = Retry(attempts=2, backoff_s=600.0, most_backoff_s=600.0)

    def run(interrupted):
        channel = trimtab.insecure_channel("orders.shop:80", endpoints=[target], retry=retry)
        stub = stubs.EchoStub(channel)
        with ending(channel.close) as handle, interrupted(raising(handle)), pytest.raises(CLOSED):
            stub.Say(request, wait_for_ready=True, timeout=1200)
        channel.close()

    modules = (*MODULES, alarms, connectivity_callbacks, threading)
    assert at_one_line_after_the_other(run, *modules) > 5


def test_a_future_that_begins_to_wait_while_the_channel_is_closed_ends_at_whichever_step(echo):
    messages, stubs = echo

    def run(interrupted):
        begun = []
        channel = trimtab.insecure_channel("orders.shop:80", endpoints=["127.0.0.1:1"])
        stub = stubs.EchoStub(channel)
        with interrupted(channel.close), contextlib.suppress(*CLOSED):
            begun.append(stub.Say.future(messages.Request(), wait_for_ready=True))
        channel.close()
        for call in begun:
            with pytest.raises(CLOSED):
                call.result(timeout=20)

    assert at_one_line_after_the_other(run, sync_calls, sync_cluster) > 30


def test_a_channel_that_is_closed_at_any_step_of_a_first_call_ends_or_refuses_it(servers, echo):
    """gRPC's core crashes where a method is registered at a channel that has just been closed."""
    messages, stubs = echo
    target = servers.open("a").target

    def run(interrupted):
        with trimtab.insecure_channel("orders.shop:80", endpoints=[target]) as channel:
            grpc.channel_ready_future(channel).result(20)
            stub = stubs.EchoStub(channel)
            with interrupted(channel.close), contextlib.suppress(*CLOSED):
                stub.Say(messages.Request(), timeout=20)

    assert at_one_line_after_the_other(run, sync_calls, sync_cluster) > 30
