"""What a channel does with gRPC's service config beyond ``retryPolicy``: threads and asyncio, real servers."""

import json
import threading
from collections import Counter

import grpc
import pytest

from doors import loop, threads
from doors.counting import code_of, executions, opened
from doors.settled import idle
from harness.waiting import eventually

DOORS = {"threads": threads.DOORS["threads"], "loop": loop.DOORS["loop"]}
UNAVAILABLE, NOT_FOUND = 14, 5
ROUNDED_S = 0.3  # gRPC sends what is left of a deadline in a few digits, and rounds up
RETRIES = {
    "maxAttempts": 5,
    "initialBackoff": "0.001s",
    "maxBackoff": "0.001s",
    "backoffMultiplier": 1,
    "retryableStatusCodes": ["UNAVAILABLE"],
}

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


def configured(door, pods, method, **more):
    """A channel of whose calls the service config says this."""
    config = {"methodConfig": [{"name": [{"service": "trimtab.test.Echo"}], **method}], **more}
    return opened(door, pods, options=[("grpc.service_config", json.dumps(config))])


def test_retry_throttling_ends_retries_in_an_outage_and_successes_bring_them_back(door, pods, echo):
    throttling = {"maxTokens": 4, "tokenRatio": 1}
    channel = configured(door, pods, {"retryPolicy": RETRIES}, retryThrottling=throttling)

    def fail(calls):
        for pod in pods:
            pod.code = UNAVAILABLE
            pod.executions.clear()
        for n in range(calls):
            code_of(channel, echo[0].Request(text=f"{n}"), timeout=10)
        for pod in pods:
            pod.code = None
        return executions(pods).total()

    # gRFC A6: each failure takes a token, and above half of them a retry may leave. The second leaves 2 of 4.
    assert fail(20) == 20 + 1
    for _ in range(5):
        channel.say(echo[0].Request(text="well"), timeout=10)
    assert fail(1) == 2


def test_a_methods_timeout_is_shared_by_its_attempts(door, pods, echo):
    for pod in pods:
        pod.code = UNAVAILABLE
    pauses = {**RETRIES, "maxAttempts": 2, "initialBackoff": "1s", "maxBackoff": "1s"}
    channel = configured(door, pods, {"retryPolicy": pauses, "timeout": "30s"})
    assert code_of(channel, echo[0].Request(text="x")) is grpc.StatusCode.UNAVAILABLE
    first, second = sorted((left for pod in pods for left in pod.time_left), reverse=True)
    assert first <= 30 + ROUNDED_S
    assert second <= 30 - 0.8 + ROUNDED_S  # gRFC A6: the pause varies by a fifth


def test_the_callers_timeout_counts_where_it_is_shorter_than_the_methods(door, pods, echo):
    channel = configured(door, pods, {"retryPolicy": RETRIES, "timeout": "30s"})
    channel.say(echo[0].Request(text="x"), timeout=9)
    assert [left for pod in pods for left in pod.time_left if left <= 9 + ROUNDED_S]


def test_an_attempt_that_takes_longer_than_per_attempt_recv_timeout_is_made_again(door, pods, echo):
    method = {"retryPolicy": {**RETRIES, "maxAttempts": 2, "perAttemptRecvTimeout": "1s"}}
    channel = configured(door, pods, method)
    code = code_of(channel, echo[0].Request(text="x", hold=True), timeout=9)
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert [pod.executions["x"] for pod in pods] == [1, 1]
    assert max(left for pod in pods for left in pod.time_left) <= 1 + ROUNDED_S


def test_a_hedge_leaves_after_the_configured_delay_and_the_first_answer_counts(door, pods, echo):
    channel = configured(door, pods, {"hedgingPolicy": {"maxAttempts": 2, "hedgingDelay": "0.05s"}})
    answers = []
    request = echo[0].Request(text="x", hold=True)
    caller = threading.Thread(target=lambda: answers.append(channel.say(request, timeout=9).server))
    caller.start()
    eventually(lambda: all(pod.holding for pod in pods), within=8, what="both attempts hang")
    slow, quick = pods
    quick.let_go.set()
    caller.join()
    assert answers == [quick.name]
    eventually(lambda: slow.cancelled == 1, within=20, what="the other attempt is cancelled")
    assert executions(pods) == Counter(x=2)
    idle(channel)


def test_a_hedge_leaves_at_once_after_a_status_that_is_not_fatal_and_never_after_another(
    door, pods, echo
):
    bad, good = pods
    bad.code = UNAVAILABLE
    hedges = {
        "maxAttempts": 2,
        "hedgingDelay": "60s",
        "nonFatalStatusCodes": ["UNAVAILABLE"],
    }
    channel = configured(door, pods, {"hedgingPolicy": hedges})
    for n in range(4):
        assert channel.say(echo[0].Request(text=f"{n}"), timeout=9).server == good.name
    assert bad.executions.total() >= 1
    for pod in pods:
        pod.code = NOT_FOUND
    assert code_of(channel, echo[0].Request(text="x"), timeout=9) is grpc.StatusCode.NOT_FOUND
    assert executions(pods)["x"] == 1
