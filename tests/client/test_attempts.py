"""Retries and hedges on another endpoint, over every door: real servers, real sockets."""

import json
import threading
from collections import Counter

import grpc
import pytest

from doors import loop, threads
from doors.servers import EchoServer
from harness.waiting import eventually, pause
from trimtab import ConfigError, Endpoint, Retry, Snapshot

DOORS = {**threads.DOORS, **loop.DOORS}
UNAVAILABLE, NOT_FOUND = 14, 5
NEVER = ("grpc-retry-pushback-ms", "-1")

# See test_doors.
pytestmark = [
    pytest.mark.processes,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


class Pod(EchoServer):
    """Fails every call with ``code`` while that is set; counts calls by their text."""

    def __init__(self, echo, name):
        self.code = None
        self.trailers = ()
        self.executions = Counter()
        self._counting = threading.Lock()
        super().__init__(echo, name)

    def _answer(self, request, context):
        with self._counting:
            self.executions[request.text] += 1
        if self.code is not None:
            context.set_trailing_metadata(self.trailers)
            context.abort(
                next(c for c in grpc.StatusCode if c.value[0] == self.code), f"{self.name} fails"
            )
        return super()._answer(request, context)


@pytest.fixture(params=DOORS)
def door(request, echo):
    made = DOORS[request.param](echo)
    yield made
    made.close()


@pytest.fixture
def pods(echo):
    made = [Pod(echo, name) for name in "ab"]
    yield made
    for pod in made:
        pod.stop()


def opened(door, pods, **given):
    channel = door.open([pod.target for pod in pods], policy="round_robin", **given)
    eventually(
        lambda: sum(n.connected for n in channel.balancer.nodes.values()) == len(pods),
        within=10,
        what="all are connected",
    )
    return channel


def executions(pods):
    return sum((pod.executions for pod in pods), Counter())


def code_of(channel, request, **more):
    with pytest.raises(grpc.RpcError) as caught:
        channel.say(request, **more)
    return caught.value.code()


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
    channel = opened(door, pods, retry=Retry(hedge_after_s=0.05))
    call = channel.say
    done = []
    caller = threading.Thread(
        target=lambda: done.append(call(echo[0].Request(text="x", hold=True), timeout=20))
    )
    caller.start()
    eventually(lambda: all(pod.holding for pod in pods), within=10, what="both attempts hang")
    slow, quick = pods
    quick.let_go.set()
    caller.join()
    assert done[0].server == quick.name
    eventually(lambda: slow.cancelled == 1, within=10, what="the other attempt is cancelled")
    eventually(
        lambda: not any(node.in_flight for node in channel.balancer.nodes.values()),
        within=10,
        what="nothing is in flight",
    )


def test_a_hedge_that_finds_no_endpoint_leaves_the_first_attempt_alone(door, pods, echo):
    (pod, _) = pods
    there = Snapshot("orders.shop:80", (Endpoint("127.0.0.1", pod.port),))
    channel = door.open(None, retry=Retry(hedge_after_s=0.2))
    channel.update(there)
    done = []
    caller = threading.Thread(
        target=lambda: done.append(
            channel.say(echo[0].Request(text="x", hold=True), timeout=9).server
        )
    )
    caller.start()
    eventually(lambda: pod.holding, within=10, what="the first attempt hangs")
    channel.update(Snapshot("orders.shop:80", ()))
    pause(0.5)  # the hedge is tried meanwhile; nothing outside shows it
    pod.let_go.set()
    caller.join()
    assert done == [pod.name]
    assert executions(pods) == Counter(x=1)


def test_an_attempt_has_its_own_time_and_all_share_the_calls(door, pods, echo):
    retry = Retry(attempts=5, attempt_timeout_s=0.2, backoff_s=0.0)
    channel = opened(door, pods, retry=retry)
    request = echo[0].Request(text="x", hold=True)
    code = code_of(channel, request, timeout=0.5)
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert 2 <= executions(pods)["x"] <= 3


# A blocking call can't be cancelled, and ``future`` makes one attempt.
@pytest.mark.parametrize("door", loop.DOORS, indirect=True)
def test_who_cancels_a_call_cancels_its_attempts(door, pods, echo):
    channel = opened(door, pods, retry=Retry(hedge_after_s=0.05))
    call = channel.begin("Say", echo[0].Request(text="x", hold=True), timeout=20)
    eventually(lambda: all(pod.holding for pod in pods), within=10, what="both attempts hang")
    call.cancel()
    eventually(lambda: all(pod.cancelled for pod in pods), within=10, what="both are cancelled")


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
