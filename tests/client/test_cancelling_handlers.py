"""A signal handler that cancels the call whose answer the main thread waits for, as gRPC's own examples have it."""

import signal
import threading

import grpc
import pytest

import trimtab
from harness.stepping import at_one_line_after_the_other
from harness.waiting import eventually
from trimtab import Retry
from trimtab.client import attempted_call, ended_call, unsettled_call, wakeup

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
        over = threading.Event()

        def cancel_in_the_end():
            # Where there is no such line left, the wait goes on as it should, till somebody else cancels.
            if not over.wait(0.3) and not handled:
                call.cancel()

        def cancel():
            handled.append(True)
            call.cancel()

        handled = []
        other = threading.Thread(target=cancel_in_the_end, daemon=True)
        other.start()
        with (
            interrupted(raising(cancel)),
            pytest.raises((grpc.RpcError, grpc.FutureCancelledError)),
        ):
            call.result(timeout=20) if kind == "future" else next(call)
        over.set()
        other.join()
        assert call.code() is grpc.StatusCode.CANCELLED

    with trimtab.insecure_channel("orders.shop:80", endpoints=[target], retry=retry) as channel:
        if how == "an endpoint":
            grpc.channel_ready_future(channel).result(20)
        stub = stubs.EchoStub(channel)
        assert at_one_line_after_the_other(run, *MODULES) > 10
        eventually(lambda: channel.trimtab.in_flight == 0, within=20, what="all of them ended")
