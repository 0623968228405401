"""A strategy of the user's own that raises at every end, or that is not there: requests go on, and somebody hears of it."""

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
from trimtab.model import Endpoint, PolicyConfig, Snapshot
from trimtab.policies.round_robin import RoundRobin
from trimtab.testing import ControlPlane

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
    # They come from several threads: the one that logs may be the last to count.
    eventually(
        lambda: heard(service)[0] and heard(service)[1] >= CALLS,
        within=20,
        what=f"{CALLS} errors are counted, and one is logged",
    )
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


REFUSED = "refused.shop:80"


@pytest.fixture
def lacking(caplog):
    """A control plane whose service asks for a policy that this process lacks, and what it says of it."""

    def told():
        return [r.getMessage() for r in caplog.records if "can't be used here" in r.getMessage()]

    with ControlPlane() as plane, caplog.at_level(logging.WARNING, "trimtab.client"):
        yield plane, told


def announce(plane, target, weight=1):
    host, port = target.rsplit(":", 1)
    only = Endpoint(host, int(port), weight=weight)
    plane.set(Snapshot(REFUSED, (only,), PolicyConfig("from_the_future")))


def once(told):
    eventually(told, within=20, what="it is logged")
    (line,) = told()
    assert line.startswith(f"{REFUSED}: ")
    assert "'from_the_future' is unknown" in line
    assert "trimtab.dev/policy" in line


def test_a_policy_that_is_lacking_is_said_once_over_blocking_calls(servers, echo, lacking):
    (messages, stubs), (plane, told) = echo, lacking
    target = servers.open("a").target
    announce(plane, target)
    with trimtab.insecure_channel(REFUSED, bootstrap=plane.bootstrap()) as channel:
        stub = stubs.EchoStub(channel)
        assert stub.Say(messages.Request(), timeout=10).server == "a"
        announce(plane, target, weight=2)
        (node,) = channel._cluster.balancer.nodes.values()
        eventually(lambda: node.endpoint.weight == 2, within=20, what="the change is there")
        once(told)


async def test_a_policy_that_is_lacking_is_said_once_over_asyncio_calls(servers, echo, lacking):
    (messages, stubs), (plane, told) = echo, lacking
    announce(plane, servers.open("a").target)
    async with trimtab.aio.insecure_channel(REFUSED, bootstrap=plane.bootstrap()) as channel:
        assert (await stubs.EchoStub(channel).Say(messages.Request(), timeout=10)).server == "a"
        await asyncio.to_thread(once, told)


def test_a_policy_that_is_lacking_is_said_once_over_http(lacking):
    plane, told = lacking
    made = HttpServers()
    try:
        announce(plane, made.open("a").target)
        transport = Transport(hosts=["*.shop"], bootstrap=plane.bootstrap())
        with httpx.Client(transport=transport) as client:
            assert client.get(f"http://{REFUSED}/").status_code == 200
            once(told)
    finally:
        made.close()


def told_for_all_that(heard, service):
    # By its thread, where a beat came in between.
    eventually(lambda: heard(service)[1] >= 1, within=5, what="the error is counted")
    assert heard(service)[0] == 1


def test_a_channel_that_closes_after_one_call_tells_of_its_error(servers, echo, heard):
    messages, stubs = echo
    name = "short.blocking.unlearning:80"
    target = servers.open("a").target
    with trimtab.insecure_channel(name, endpoints=[target], policy="unlearning") as channel:
        assert stubs.EchoStub(channel).Say(messages.Request(), timeout=10).server == "a"
    told_for_all_that(heard, name)


async def test_an_asyncio_channel_that_closes_after_one_call_tells_of_its_error(
    servers, echo, heard
):
    messages, stubs = echo
    name = "short.asyncio.unlearning:80"
    target = servers.open("a").target
    async with trimtab.aio.insecure_channel(
        name, endpoints=[target], policy="unlearning"
    ) as channel:
        assert (await stubs.EchoStub(channel).Say(messages.Request(), timeout=10)).server == "a"
    told_for_all_that(heard, name)


def test_an_http_client_that_closes_after_one_request_tells_of_its_error(heard):
    name = "short.http.unlearning:80"
    made = HttpServers()
    try:
        endpoints = {name: [made.open("a").target]}
        with httpx.Client(transport=Transport(endpoints=endpoints, policy="unlearning")) as client:
            assert client.get(f"http://{name}/").status_code == 200
        told_for_all_that(heard, name)
    finally:
        made.close()
