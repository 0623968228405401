"""What is declared of requests to run more than once, through every HTTP door to real servers."""

import asyncio

import pytest

import trimtab
from harness.waiting import Deadline, pause
from trimtab.errors import ConfigError
from trimtab.model import PolicyConfig

URL = "http://orders.shop:8080"
PLAIN = PolicyConfig.of("round_robin", judges=False, stalls=False)


@pytest.fixture
def two(servers):
    return servers.open("a", "b")


def fixed(servers):
    return {"orders.shop:8080": [s.target for s in servers]}


def executions(servers, path="/"):
    return sum(s.served[path] for s in servers)


async def nothing_in_flight(client):
    deadline = Deadline(20)
    (cluster,) = client.transport._clusters
    while cluster.balancer.in_flight:
        assert not deadline.passed, cluster.balancer
        await asyncio.to_thread(pause)


async def some_parts():
    yield b"only "
    yield b"once"


async def test_declared_statuses_are_asked_elsewhere_and_call_details_say_so(door, two):
    a, b = two
    a.status["/"] = 502
    client = door(endpoints=fixed(two), policy=PLAIN, retry=trimtab.Retry(on=[502]))
    for _ in range(4):
        with trimtab.call_details() as attempts:
            assert (await client.send("GET", URL + "/")).status == 200
        assert [each.number for each in attempts] == list(range(1, len(attempts) + 1))
        went = [
            (each.endpoint.port, each.status, each.method)
            for each in attempts
            if each.status != "UNREACHED"  # a busy machine may need more than a connection's second
        ]
        assert went in ([(a.port, "502", "GET"), (b.port, "200", "GET")], [(b.port, "200", "GET")])
    assert 1 <= a.served["/"] <= 4
    assert b.served["/"] == 4


async def test_only_a_method_that_is_named_or_idempotent_runs_twice(door, two):
    for server in two:
        server.status["/"] = 503
    again = trimtab.Retry(attempts=2, on=[503])
    client = door(endpoints=fixed(two), policy=PLAIN, retry=again, retries={"PATCH": again})
    for method, runs in (("POST", 1), ("PATCH", 2), ("PUT", 2)):
        before = executions(two)
        assert (await client.send(method, URL + "/", content=b"x")).status == 503
        assert executions(two) == before + runs, method


async def test_a_streamed_body_is_sent_once_whatever_is_declared(door, two):
    for server in two:
        server.status["/"] = 503
    declared = {"POST": trimtab.Retry(on=[503], hedge_after_s=0.0)}
    client = door(endpoints=fixed(two), policy=PLAIN, retries=declared)
    parts = some_parts() if "Sync" not in type(client).__name__ else iter([b"only ", b"once"])
    answer = await client.send("POST", URL + "/", content=parts)
    assert (answer.status, answer.seen["body"]) == (503, "only once")
    assert executions(two) == 1


async def test_an_attempt_that_takes_too_long_is_followed_by_one_elsewhere(door, two):
    a, b = two
    b.let_go.set()
    client = door(endpoints=fixed(two), policy=PLAIN, retry=trimtab.Retry(attempt_timeout_s=1.0))
    for _ in range(2):
        assert (await client.send("GET", URL + "/hold")).seen["server"] == "b"
    assert 1 <= a.served["/hold"] <= 2
    assert b.served["/hold"] == 2
    await nothing_in_flight(client)


async def test_an_attempt_s_own_time_ends_with_the_answer_not_with_its_body(door, two):
    client = door(endpoints=fixed(two), policy=PLAIN, retry=trimtab.Retry(attempt_timeout_s=1.0))
    waiting = asyncio.create_task(client.send("GET", URL + "/parts"))
    deadline = Deadline(20)
    while executions(two, "/parts") == 0:
        assert not deadline.passed
        await asyncio.to_thread(pause)
    await asyncio.to_thread(pause, 1.5)
    for server in two:
        server.let_go.set()
    assert (await waiting).status == 200
    assert executions(two, "/parts") == 1


async def test_when_every_attempt_takes_too_long_the_error_is_the_library_s(door, two):
    declared = trimtab.Retry(attempts=2, attempt_timeout_s=0.2)
    client = door(endpoints=fixed(two), policy=PLAIN, retry=declared)
    with (
        trimtab.call_details() as attempts,
        pytest.raises(client.errors, match=r"127\.0\.0\.1"),
    ):
        await client.send("GET", URL + "/hold")
    assert [each.status for each in attempts] == ["TIMEOUT", "TIMEOUT"]
    await nothing_in_flight(client)


async def test_a_hedge_leaves_for_another_endpoint_and_the_first_good_answer_wins(door, two):
    a, b = two
    b.let_go.set()
    client = door(
        endpoints=fixed(two), policy=PLAIN, retry=trimtab.Retry(attempts=2, hedge_after_s=0.1)
    )
    for _ in range(2):
        with trimtab.call_details() as attempts:
            answer = await client.send("GET", URL + "/hold")
        assert (answer.status, answer.seen["server"]) == (200, "b")
        statuses = {each.endpoint.port: each.status for each in attempts}
        assert statuses[b.port] == "200"
        assert set(statuses) <= {a.port, b.port}
        assert len(attempts) == len(statuses)
    assert 1 <= a.served["/hold"] <= 2
    assert b.served["/hold"] == 2
    a.let_go.set()
    await nothing_in_flight(client)


async def test_what_is_not_declared_is_never_hedged(door, two):
    client = door(endpoints=fixed(two), policy=PLAIN, retry=trimtab.Retry(hedge_after_s=0.0))
    for server in two:
        server.let_go.set()
    for _ in range(5):
        await client.send("POST", URL + "/hold", content=b"x")
    assert executions(two, "/hold") == 5


async def test_a_hedge_that_fails_does_not_end_a_request_that_another_answers(door, two):
    a, b = two
    b.status["/hold"] = 503
    b.let_go.set()
    declared = trimtab.Retry(attempts=2, on=[503], hedge_after_s=0.1)
    client = door(endpoints=fixed(two), policy=PLAIN, retry=declared)
    waiting = asyncio.create_task(client.send("GET", URL + "/hold"))
    deadline = Deadline(20)
    while not (a.served["/hold"] and b.served["/hold"]):
        assert not deadline.passed
        await asyncio.to_thread(pause)
    a.let_go.set()
    answer = await waiting
    assert (answer.status, answer.seen["server"]) == (200, "a")
    await nothing_in_flight(client)


async def test_a_hedged_request_that_is_given_up_leaves_nothing_in_flight(door, two):
    declared = trimtab.Retry(attempts=2, hedge_after_s=0.05)
    client = door(endpoints=fixed(two), policy=PLAIN, retry=declared, timeout=0.5)
    with pytest.raises(client.errors):
        await client.send("GET", URL + "/hold")
    await nothing_in_flight(client)


async def test_a_rest_that_is_longer_than_the_caller_waits_is_the_caller_s_to_know(door, two):
    for server in two:
        server.status["/"] = 503
        server.headers["retry-after"] = "30"
    client = door(endpoints=fixed(two), policy=PLAIN, retry=trimtab.Retry(on=[503]))
    answer = await client.send("GET", URL + "/")
    assert (answer.status, answer.headers["retry-after"]) == (503, "30")
    assert executions(two) == 1


async def test_a_wrong_declaration_is_refused_at_once(door):
    with pytest.raises(ConfigError, match=r"retry: on=\[13\]"):
        door(hosts=["*.shop"], retry=trimtab.Retry(on=["INTERNAL"]))
