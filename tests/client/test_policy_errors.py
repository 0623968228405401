"""A strategy of the user's own that raises at every end: requests go on, and somebody hears of it."""

import asyncio
import logging

import httpx
import pytest

import trimtab
import trimtab.aio
from harness.waiting import eventually
from http_servers import HttpServers
from trimtab import policies
from trimtab.client.metrics import COUNTERS
from trimtab.httpx import Transport
from trimtab.policies.round_robin import RoundRobin

pytestmark = pytest.mark.processes
CALLS = 5


class Unlearning(RoundRobin):
    def done(self, node, outcome, latency, now, report):
        raise LookupError(node.endpoint.address)


@pytest.fixture
def heard(monkeypatch, caplog):
    """Call it for how many lines of the log name a service, and how many errors are counted there."""
    monkeypatch.setitem(
        policies._registry, "unlearning", lambda _params, random: Unlearning(random)
    )

    def at(service):
        logged = [r for r in caplog.records if service in r.getMessage()]
        return len(logged), COUNTERS.get("trimtab_client_policy_errors_total", service)

    with caplog.at_level(logging.ERROR, "trimtab.client"):
        yield at


def until_told(heard, service):
    # More where a call picked before an endpoint was connected, and gave that pick back.
    eventually(lambda: heard(service)[1] >= CALLS, within=5, what=f"{CALLS} errors are counted")
    assert heard(service)[0] == 1


def test_blocking_calls(servers, echo, heard):
    messages, stubs = echo
    name = "blocking.unlearning:80"
    target = servers.open("a").target
    with trimtab.insecure_channel(name, endpoints=[target], policy="unlearning") as channel:
        stub = stubs.EchoStub(channel)
        for _ in range(CALLS):
            assert stub.Say(messages.Request(), timeout=10).server == "a"
        until_told(heard, name)


async def test_asyncio_calls(servers, echo, heard):
    messages, stubs = echo
    name = "asyncio.unlearning:80"
    target = servers.open("a").target
    async with trimtab.aio.insecure_channel(
        name, endpoints=[target], policy="unlearning"
    ) as channel:
        stub = stubs.EchoStub(channel)
        for _ in range(CALLS):
            assert (await stub.Say(messages.Request(), timeout=10)).server == "a"
        assert channel.trimtab.in_flight == 0
        await asyncio.to_thread(until_told, heard, name)


def test_http_requests(heard):
    name = "http.unlearning:80"
    made = HttpServers()
    try:
        endpoints = {name: [made.open("a").target]}
        with httpx.Client(transport=Transport(endpoints=endpoints, policy="unlearning")) as client:
            for _ in range(CALLS):
                assert client.get(f"http://{name}/").status_code == 200
            until_told(heard, name)
    finally:
        made.close()
