"""Retries and hedges on another endpoint, over every door: real servers, real sockets."""

import asyncio
import gc
import json
import threading
from collections import Counter
from concurrent.futures import Future

import grpc
import grpc.experimental
import pytest

from doors import loop, threads
from doors.counting import code_of, executions, opened
from doors.settled import idle
from harness.interrupting import interrupted
from harness.waiting import eventually, pause
from trimtab import ConfigError, Endpoint, Retry, Snapshot
from trimtab.client.observing import install
from trimtab.model import Repeatable, ServicePort

DOORS = {**threads.DOORS, **loop.DOORS}
UNAVAILABLE, NOT_FOUND = 14, 5
NEVER = ("grpc-retry-pushback-ms", "-1")

OTHERS = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{"service": "trimtab.test.Others"}],
                "hedgingPolicy": {"maxAttempts": 2},
            }
        ]
    }
)
"""A service config that says nothing of the methods here."""

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


def test_what_an_endpoint_refuses_another_answers(door, pods, echo):
    bad, good = pods
    bad.code = UNAVAILABLE
    channel = opened(door, pods, retry=Retry(backoff_s=0.001))
    replies = [channel.say(echo[0].Request(text=f"{n}"), timeout=10) for n in range(12)]
    assert {reply.server for reply in replies} == {"b"}
    assert bad.executions.total() >= 1
    assert good.executions == Counter(f"{n}" for n in range(12))
    assert not any(node.in_flight for node in channel.balancer.nodes.values())


def test_a_call_of_which_nothing_is_said_runs_once(door, pods, echo):
    for pod in pods:
        pod.code = UNAVAILABLE
    channel = opened(door, pods)
    calls = [f"{n}" for n in range(20)]
    assert {code_of(channel, echo[0].Request(text=t), timeout=10) for t in calls} == {
        grpc.StatusCode.UNAVAILABLE
    }
    assert executions(pods) == Counter(calls)


def test_an_answer_that_is_not_named_is_final(door, pods, echo):
    for pod in pods:
        pod.code = NOT_FOUND
    channel = opened(door, pods, retry=Retry())
    assert code_of(channel, echo[0].Request(text="x"), timeout=10) is grpc.StatusCode.NOT_FOUND
    assert executions(pods) == Counter(x=1)


def test_a_server_that_wants_no_retry_gets_none_anywhere(door, pods, echo):
    for pod in pods:
        pod.code, pod.trailers = UNAVAILABLE, (NEVER,)
    channel = opened(door, pods, retry=Retry())
    assert code_of(channel, echo[0].Request(text="x"), timeout=10) is grpc.StatusCode.UNAVAILABLE
    assert executions(pods) == Counter(x=1)


def test_the_service_config_says_it_by_method(door, pods, echo):
    config = {
        "methodConfig": [
            {
                "name": [{"service": "trimtab.test.Echo", "method": "Say"}],
                "retryPolicy": {
                    "maxAttempts": 2,
                    "initialBackoff": "0.001s",
                    "maxBackoff": "0.01s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
    for pod in pods:
        pod.code = UNAVAILABLE
    channel = opened(door, pods, options=[("grpc.service_config", json.dumps(config))])
    request = echo[0].Request(text="said")
    assert code_of(channel, request, timeout=10) is grpc.StatusCode.UNAVAILABLE
    # Once at each endpoint: gRPC's own retries, which would stay there, are not told of it.
    assert [pod.executions["said"] for pod in pods] == [1, 1]


def test_in_a_full_outage_there_are_a_fifth_more_attempts_and_none_once_it_is_over(
    door, pods, echo
):
    for pod in pods:
        pod.code = UNAVAILABLE
    channel = opened(door, pods, retry=Retry(attempts=5, backoff_s=0.0))
    for n in range(200):
        code_of(channel, echo[0].Request(text=f"{n}"), timeout=10)
    assert 200 < executions(pods).total() <= 200 * 1.2 + 10
    for pod in pods:
        pod.code = None
        pod.executions.clear()
    for n in range(50):
        channel.say(echo[0].Request(text=f"{n}"), timeout=10)
    assert executions(pods).total() == 50


def test_a_hedge_answers_while_the_first_attempt_hangs_and_the_other_is_cancelled(door, pods, echo):
    channel = opened(door, pods, retry=Retry(2, hedge_after_s=0.05))
    call = channel.say
    done = []
    caller = threading.Thread(
        target=lambda: done.append(call(echo[0].Request(text="x", hold=True), timeout=20))
    )
    caller.start()
    eventually(lambda: all(pod.holding for pod in pods), within=20, what="both attempts hang")
    slow, quick = pods
    quick.let_go.set()
    caller.join()
    assert done[0].server == quick.name
    eventually(lambda: slow.cancelled == 1, within=20, what="the other attempt is cancelled")
    idle(channel)


def test_a_hedge_that_finds_no_endpoint_leaves_the_first_attempt_alone(door, pods, echo):
    (pod, _) = pods
    there = Snapshot("orders.shop:80", (Endpoint("127.0.0.1", pod.port),))
    channel = door.open(None, retry=Retry(2, hedge_after_s=1.0))  # till then the endpoint has gone
    channel.update(there)
    done = []
    caller = threading.Thread(
        target=lambda: done.append(
            channel.say(echo[0].Request(text="x", hold=True), timeout=20).server
        )
    )
    caller.start()
    eventually(lambda: pod.holding, within=20, what="the first attempt hangs")
    channel.update(Snapshot("orders.shop:80", ()))
    pause(1.5)  # the hedge is tried meanwhile; nothing outside shows it
    pod.let_go.set()
    caller.join()
    assert done == [pod.name]
    assert executions(pods) == Counter(x=1)


def test_an_attempt_has_its_own_time_and_all_share_the_calls(door, pods, echo):
    # A machine that stands still for a moment makes attempts fewer: they are long to that.
    retry = Retry(attempts=5, attempt_timeout_s=1.0, backoff_s=0.0)
    channel = opened(door, pods, retry=retry)
    request = echo[0].Request(text="x", hold=True)
    code = code_of(channel, request, timeout=2.5)
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert 2 <= executions(pods)["x"] <= 3


def test_who_cancels_a_call_cancels_its_attempts(door, pods, echo):
    channel = opened(door, pods, retry=Retry(2, hedge_after_s=0.05))
    call = channel.begin("Say", echo[0].Request(text="x", hold=True), timeout=20)
    eventually(lambda: all(pod.holding for pod in pods), within=20, what="both attempts hang")
    call.cancel()
    eventually(lambda: all(pod.cancelled for pod in pods), within=20, what="both are cancelled")


def test_a_stream_that_fails_before_its_first_message_is_asked_for_elsewhere(door, pods, echo):
    bad, good = pods
    bad.code = UNAVAILABLE
    channel = opened(door, pods, retry=Retry(backoff_s=0.001))
    for n in range(6):
        replies = channel.count(echo[0].Request(text=f"{n}", replies=3), timeout=10)
        assert [reply.server for reply in replies] == ["b", "b", "b"]
    assert bad.executions.total() >= 1
    assert good.executions == Counter(f"{n}" for n in range(6))
    assert channel.count(echo[0].Request(text="none"), timeout=10) == []
    idle(channel)


def test_after_the_first_message_of_a_stream_its_error_is_the_callers(door, pods, echo):
    channel = opened(door, pods, retry=Retry(backoff_s=0.001))
    call = channel.begin("Count", echo[0].Request(text="x", replies=1, fail_with=14), timeout=10)
    assert call.first().text == "x"
    with pytest.raises(grpc.RpcError) as caught:
        call.rest()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert executions(pods) == Counter(x=1)
    idle(channel)


def test_a_stream_of_which_nothing_is_said_runs_once(door, pods, echo):
    for pod in pods:
        pod.code = UNAVAILABLE
    channel = opened(door, pods)
    with pytest.raises(grpc.RpcError):
        channel.count(echo[0].Request(text="x", replies=1), timeout=10)
    assert executions(pods) == Counter(x=1)


def test_the_error_of_a_streams_last_attempt_is_the_callers(door, pods, echo):
    for pod in pods:
        pod.code = UNAVAILABLE
    channel = opened(door, pods, retry=Retry(2, backoff_s=0.0))
    call = channel.begin("Count", echo[0].Request(text="x", replies=1), timeout=10)
    # Nobody iterates: the attempts are made all the same.
    assert call.code() is grpc.StatusCode.UNAVAILABLE
    assert "fails" in call.details()
    with pytest.raises(grpc.RpcError, match="fails"):
        call.rest()
    assert executions(pods) == Counter(x=2)
    idle(channel)


def test_an_attempts_own_time_is_that_until_a_streams_first_message(door, pods, echo):
    retry = Retry(2, attempt_timeout_s=1.0, backoff_s=0.0)
    channel = opened(door, pods, retry=retry)
    call = channel.begin("Count", echo[0].Request(text="later", replies=3), timeout=20)
    taken = call.first().server
    pause(1.5)  # longer than an attempt may keep its caller waiting; nothing outside shows it
    for pod in pods:
        pod.let_go.set()
    assert {reply.server for reply in call.rest()} == {taken}
    assert executions(pods) == Counter(later=1)


def test_a_stream_that_keeps_its_caller_waiting_is_asked_for_elsewhere(door, pods, echo):
    retry = Retry(2, attempt_timeout_s=1.0, backoff_s=0.0)
    channel = opened(door, pods, retry=retry)
    with pytest.raises(grpc.RpcError) as caught:
        channel.count(echo[0].Request(text="x", replies=1, hold=True), timeout=20)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "1.0 s" in caught.value.details()
    assert [pod.executions["x"] for pod in pods] == [1, 1]
    eventually(lambda: all(pod.cancelled for pod in pods), within=20, what="both are cancelled")
    idle(channel)


def test_who_cancels_a_stream_cancels_the_attempt_that_it_waits_for(door, pods, echo):
    channel = opened(door, pods, retry=Retry())
    call = channel.begin("Count", echo[0].Request(text="x", hold=True), timeout=20)
    eventually(lambda: any(pod.holding for pod in pods), within=20, what="an attempt hangs")
    call.cancel()
    eventually(lambda: any(pod.cancelled for pod in pods), within=20, what="it is cancelled")
    idle(channel)
    assert executions(pods) == Counter(x=1)


DROP_SAFE = {name: door for name, door in DOORS.items() if name != "loop-public"}  # see aio_public


@pytest.mark.parametrize("door", DROP_SAFE, indirect=True)
def test_a_stream_that_its_caller_drops_after_a_message_is_cancelled(door, pods, echo):
    channel = opened(door, pods, retry=Retry())
    call = channel.begin("Count", echo[0].Request(text="later", replies=2), timeout=20)
    call.first()
    eventually(lambda: any(pod.holding for pod in pods), within=20, what="it hangs")
    call.drop()
    eventually(lambda: any(pod.cancelled for pod in pods), within=20, what="it is cancelled")
    idle(channel)


# An asyncio one is cancelled once it has its first message: see aio_stream_attempts.
@pytest.mark.parametrize("door", threads.DOORS, indirect=True)
def test_a_stream_that_its_caller_drops_before_a_message_is_cancelled(door, pods, echo):
    channel = opened(door, pods, retry=Retry())
    call = channel.begin("Count", echo[0].Request(text="x", replies=2, hold=True), timeout=20)
    eventually(lambda: any(pod.holding for pod in pods), within=20, what="an attempt hangs")
    call.drop()
    eventually(lambda: any(pod.cancelled for pod in pods), within=20, what="it is cancelled")
    idle(channel)


@pytest.mark.parametrize("door", ["loop"], indirect=True)
def test_an_asyncio_stream_that_its_caller_drops_is_cancelled_at_its_first_message(
    door, pods, echo
):
    channel = opened(door, pods, retry=Retry())
    call = channel.begin("Count", echo[0].Request(text="x", replies=100_000, hold=True), timeout=20)
    eventually(lambda: any(pod.holding for pod in pods), within=20, what="an attempt hangs")
    call.drop()
    for pod in pods:
        pod.let_go.set()
    idle(channel)


class Watching:
    """Notes the ends of calls and attempts."""

    def __init__(self):
        self.calls = []
        self.attempts = []

    def call(self, service, method, before=0.0):
        return lambda status: self.calls.append((method, status))

    def attempt(self, sent):
        return lambda status, **_: self.attempts.append((sent.number, sent.alone, status))


@pytest.fixture
def watching():
    made = Watching()
    remove = install(made)
    yield made
    remove()


@pytest.mark.parametrize("arity", ["Say", "Count"])
def test_who_watches_is_told_of_each_attempt_and_once_of_the_call(
    door, pods, echo, watching, arity
):
    bad, _ = pods
    channel = opened(door, pods, retry=Retry(3, backoff_s=0.0))
    name = f"trimtab.test.Echo/{arity}"
    both = echo[0].Request(text="x", replies=2)

    def ask():
        if arity == "Say":
            channel.begin("Say", both, timeout=10).code()
        else:
            channel.count(both, timeout=10)

    bad.code = UNAVAILABLE
    ask()
    ask()  # one of the two begins at the bad one
    n = bad.executions["x"]
    assert n >= 1
    expected = [(1, False, "UNAVAILABLE"), (2, False, "OK")] * n + [(1, False, "OK")] * (2 - n)
    eventually(lambda: len(watching.calls) == 2, within=20, what="both calls have ended")
    assert watching.calls == [(name, "OK")] * 2
    eventually(lambda: len(watching.attempts) == n + 2, within=20, what="all attempts have ended")
    assert sorted(watching.attempts) == sorted(expected)
    bad.code = None
    hanging = channel.begin(arity, echo[0].Request(text="y", hold=True), timeout=10)
    eventually(lambda: any(pod.holding for pod in pods), within=20, what="a call hangs")
    hanging.cancel()
    eventually(lambda: len(watching.calls) == 3, within=20, what="its end is told")
    assert watching.calls[-1] == (name, "CANCELLED")
    idle(channel)
    assert len(watching.calls) == 3


@pytest.mark.parametrize("arity", ["Say", "Count"])
def test_a_call_of_which_nothing_is_declared_is_one_attempt_until_its_service_says_more(
    door, pods, echo, watching, arity
):
    channel = opened(door, pods, options=[("grpc.service_config", OTHERS)])
    name = f"trimtab.test.Echo/{arity}"
    both = echo[0].Request(text="x", replies=1)

    def ask():
        if arity == "Say":
            channel.say(both, timeout=10)
        else:
            channel.count(both, timeout=10)

    def told(repeatable):
        there = tuple(Endpoint("127.0.0.1", pod.port) for pod in pods)
        service = ServicePort("orders", "shop", 80, repeatable=repeatable)
        return Snapshot("orders.shop:80", there, None, service)

    ask()
    eventually(lambda: watching.attempts == [(1, True, "OK")], within=20, what="it has ended")
    assert watching.calls == []
    channel.update(told(Repeatable((f"/{name}",))))

    def declared():
        ask()
        return watching.calls

    eventually(declared, within=20, what="it may be repeated")
    eventually(lambda: watching.attempts[-1] == (1, False, "OK"), within=20, what="it has ended")
    channel.update(told(None))

    def alone():
        ask()
        eventually(lambda: watching.attempts[-1][2] == "OK", within=20, what="it has ended")
        return watching.attempts[-1] == (1, True, "OK")

    eventually(alone, within=20, what="it may not be repeated any more")


@pytest.mark.parametrize("door", loop.DOORS, indirect=True)
def test_the_first_of_two_streams_to_have_a_message_is_the_callers(door, pods, echo):
    channel = opened(door, pods, retry=Retry(2, hedge_after_s=0.05))
    call = channel.begin("Count", echo[0].Request(text="x", replies=2, hold=True), timeout=20)
    eventually(lambda: all(pod.holding for pod in pods), within=20, what="both attempts hang")
    slow, quick = pods
    quick.let_go.set()
    assert [reply.server for reply in call.rest()] == [quick.name] * 2
    eventually(lambda: slow.cancelled == 1, within=20, what="the other attempt is cancelled")
    idle(channel)


@pytest.mark.parametrize("door", loop.DOORS, indirect=True)
def test_an_asyncio_stream_of_which_all_but_the_end_was_read_has_ended_well(
    door, pods, echo, watching
):
    channel = opened(door, pods, retry=Retry(2))

    async def read():
        call = channel.stub.Count(echo[0].Request(text="x", replies=2), timeout=10)
        for _ in range(2):
            await call.read()
        ended = asyncio.Event()
        call.add_done_callback(lambda _call: ended.set())
        if not call.done():
            await asyncio.wait_for(ended.wait(), 10)

    channel.run(read())
    gc.collect()
    eventually(lambda: watching.calls, within=20, what="its end is told")
    assert [status for _, status in watching.calls] == ["OK"]


@pytest.fixture(params=threads.DOORS)
def blocking(request, echo):
    made = threads.DOORS[request.param](echo)
    yield made
    made.close()


def future_of(channel, echo, timeout=20, **more):
    return (
        echo[1].EchoStub(channel.raw).Say.future(echo[0].Request(text="x", **more), timeout=timeout)
    )


def test_a_future_is_made_again_elsewhere_and_is_grpcs_own_to_look_at(blocking, pods, echo):
    bad, good = pods
    bad.code = UNAVAILABLE
    channel = opened(blocking, pods, retry=Retry(backoff_s=0.001))
    told = []
    for _ in range(6):
        call = future_of(channel, echo)
        call.add_done_callback(told.append)
        assert isinstance(call, grpc.Future)
        assert isinstance(call, grpc.Call)
        assert call.result(timeout=10).server == good.name
        assert call.done()
        assert not call.running()
        assert not call.cancelled()
        assert call.exception() is None
        assert call.traceback() is None
        assert call.code() is grpc.StatusCode.OK
        assert call.trailing_metadata() is not None
    assert bad.executions["x"] >= 1
    assert good.executions["x"] == 6
    eventually(lambda: len(told) == 6, within=20, what="each is told once")
    idle(channel)


def test_a_future_that_fails_has_the_last_attempts_error(blocking, pods, echo):
    for pod in pods:
        pod.code = UNAVAILABLE
    channel = opened(blocking, pods, retry=Retry(2, backoff_s=0.001))
    call = future_of(channel, echo)
    error = call.exception(timeout=10)
    assert isinstance(error, grpc.RpcError)
    assert error.code() is call.code() is grpc.StatusCode.UNAVAILABLE
    assert call.traceback() is not None
    with pytest.raises(grpc.RpcError, match="fails"):
        call.result()
    assert executions(pods) == Counter(x=2)


def test_a_future_is_hedged_and_nobody_waits_longer_than_he_said(blocking, pods, echo):
    channel = opened(blocking, pods, retry=Retry(2, hedge_after_s=0.1))
    call = future_of(channel, echo, hold=True)
    with pytest.raises(grpc.FutureTimeoutError):
        call.result(timeout=0.01)
    with pytest.raises(grpc.FutureTimeoutError):
        call.exception(timeout=0.01)
    assert call.running()
    eventually(lambda: all(pod.holding for pod in pods), within=20, what="both attempts hang")
    slow, quick = pods
    quick.let_go.set()
    assert call.result(timeout=10).server == quick.name
    eventually(lambda: slow.cancelled == 1, within=20, what="the other attempt is cancelled")
    assert not call.cancelled()
    idle(channel)


def test_a_future_that_is_cancelled_or_dropped_ends_its_attempts(blocking, pods, echo):
    channel = opened(blocking, pods, retry=Retry(2, hedge_after_s=0.05))
    call = future_of(channel, echo, hold=True)
    told = []
    call.add_done_callback(told.append)
    eventually(lambda: all(pod.holding for pod in pods), within=20, what="both attempts hang")
    assert call.cancel()
    assert not call.cancel()
    assert told == [call]
    assert call.cancelled()
    with pytest.raises(grpc.FutureCancelledError):
        call.result()
    eventually(lambda: all(pod.cancelled for pod in pods), within=20, what="both are cancelled")
    idle(channel)
    call = future_of(channel, echo, hold=True)
    eventually(lambda: any(pod.holding == 2 for pod in pods), within=20, what="another hangs")
    del call
    idle(channel)


def test_a_callback_that_raises_keeps_neither_the_others_nor_the_attempts(blocking, pods, echo):
    channel = opened(blocking, pods, retry=Retry(2, hedge_after_s=0.05))
    call = future_of(channel, echo, hold=True)
    told = threading.Event()
    call.add_done_callback(lambda _call: 1 / 0)
    call.add_done_callback(lambda _call: told.set())
    eventually(lambda: all(pod.holding for pod in pods), within=20, what="both attempts hang")
    slow, quick = pods
    quick.let_go.set()
    assert call.result(timeout=10).server == quick.name
    assert told.wait(10)
    eventually(lambda: slow.cancelled == 1, within=20, what="the other attempt is cancelled")
    idle(channel)


def test_a_future_that_is_dropped_with_a_callback_is_told_of_its_end(blocking, pods, echo):
    channel = opened(blocking, pods, retry=Retry())
    told = threading.Event()
    future_of(channel, echo).add_done_callback(lambda call: call.result() and told.set())
    assert told.wait(10)


@pytest.mark.parametrize("retry", [None, Retry(2)], ids=["undeclared", "declared"])
@pytest.mark.parametrize("end", ["read", "cancelled", "dropped"])
def test_who_watches_is_told_once_of_a_single_threaded_streams_end(
    blocking, pods, echo, watching, retry, end
):
    option = (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1)
    channel = opened(blocking, pods, retry=retry, options=[option])
    stub = echo[1].EchoStub(channel.raw)
    call = stub.Count(
        echo[0].Request(text="later" if end != "read" else "x", replies=2), timeout=20
    )
    next(call)
    if end == "read":
        list(call)
    elif end == "cancelled":
        call.cancel()
    del call
    gc.collect()
    status = "OK" if end == "read" else "CANCELLED"
    idle(channel)
    ended = [(1, retry is None, status)]
    eventually(lambda: watching.attempts == ended, within=20, what="its end is told")
    ends = [] if retry is None else [status]
    eventually(
        lambda: [t for _, t in watching.calls] == ends, within=20, what="that of the call, too"
    )


def test_closing_the_channel_ends_what_has_further_attempts_to_make(blocking, pods, echo):
    for pod in pods:
        pod.code = UNAVAILABLE
    channel = opened(blocking, pods, retry=Retry(5, backoff_s=0.2, most_backoff_s=0.2))
    call = future_of(channel, echo)
    eventually(lambda: executions(pods)["x"], within=20, what="an attempt has failed")
    channel.close()
    assert call.exception(timeout=10).code() is not grpc.StatusCode.OK


LONG = {"backoff_s": 60.0, "most_backoff_s": 60.0}
LATER = (("grpc-retry-pushback-ms", "60000"),)


@pytest.mark.parametrize("hedge_after_s", [None, 30.0], ids=["retried", "hedged"])
@pytest.mark.parametrize("how", ["blocks", "future", "stream"])
def test_a_call_between_two_attempts_is_cancelled_at_once_when_its_channel_is_closed(
    blocking, pods, echo, how, hedge_after_s
):
    for pod in pods:
        pod.code, pod.trailers = UNAVAILABLE, LATER
    channel = opened(blocking, pods, retry=Retry(5, hedge_after_s=hedge_after_s, **LONG))
    ended = Future()

    def call():
        try:
            if how == "blocks":
                channel.say(echo[0].Request(text="x"), timeout=600)
            elif how == "future":
                future_of(channel, echo, timeout=600).result()
            else:
                channel.count(echo[0].Request(text="x"), timeout=600)
        except (grpc.RpcError, ValueError) as error:
            ended.set_exception(error)

    caller = threading.Thread(target=call)
    caller.start()
    eventually(lambda: executions(pods)["x"], within=20, what="an attempt has failed")
    idle(channel)
    pause(0.1)  # who was told of the end of the last one waits now
    channel.close()
    with pytest.raises(grpc.RpcError, match="closed") as caught:
        ended.result(timeout=10)
    assert caught.value.code() is grpc.StatusCode.CANCELLED
    caller.join()


@pytest.mark.parametrize("how", ["future", "stream"])
def test_who_cancels_a_call_between_two_attempts_waits_for_none(blocking, pods, echo, how):
    for pod in pods:
        pod.code = UNAVAILABLE
    channel = opened(blocking, pods, retry=Retry(5, **LONG))
    if how == "future":
        call = future_of(channel, echo, timeout=600)
    else:
        call = echo[1].EchoStub(channel.raw).Count(echo[0].Request(text="x"), timeout=600)
    ended = Future()
    waiter = threading.Thread(target=lambda: ended.set_result(call.code()))
    waiter.start()
    eventually(lambda: executions(pods)["x"], within=20, what="an attempt has failed")
    idle(channel)
    call.cancel()
    assert ended.result(timeout=10) is grpc.StatusCode.CANCELLED
    waiter.join()


@pytest.mark.parametrize("waits", ["for a message", "for the next attempt"])
def test_a_stream_whose_reader_is_interrupted_leaves_nothing_in_flight(blocking, pods, echo, waits):
    between = waits == "for the next attempt"
    for pod in pods:
        pod.code = UNAVAILABLE if between else None
    channel = opened(blocking, pods, retry=Retry(5, **LONG))
    call = (
        echo[1]
        .EchoStub(channel.raw)
        .Count(echo[0].Request(text="x", hold=not between, replies=1), timeout=600)
    )

    def under_way():
        eventually(lambda: executions(pods)["x"], within=20, what="an attempt is under way")
        if between:
            idle(channel)
        pause(0.3)

    with interrupted(under_way), pytest.raises(KeyboardInterrupt):
        next(call)
    idle(channel)
    assert call.code() is grpc.StatusCode.CANCELLED


def test_without_endpoints_the_reason_is_the_callers(door, echo):
    channel = door.open(None, retry=Retry())
    channel.fail("the control plane is away")
    with pytest.raises(grpc.RpcError) as caught:
        channel.say(echo[0].Request(), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "the control plane is away" in caught.value.details()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"retry": 3}, "retry=3"),
        ({"options": [("grpc.service_config", "[")]}, "service config"),
        ({"options": [("grpc.service_config", '{"methodConfig": 1}')]}, "methodConfig"),
    ],
)
def test_what_is_wrong_is_named(door, given, words):
    with pytest.raises(ConfigError, match=r"orders\.shop:80") as caught:
        door.open(["127.0.0.1:1"], **given)
    assert words in str(caught.value)
