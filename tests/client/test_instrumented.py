"""Instrumentation that others put over gRPC and the HTTP libraries: as over native channels and plain clients.

Each case runs in a process of its own, since instrumentation replaces functions of the libraries.
"""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import grpc
import grpc.aio
import pytest

import trimtab
import trimtab.aio
from trimtab.testing import ControlPlane

PROGRAMS = Path(__file__).parents[1] / "support/instrumented"
GRPC_DOORS = ("threads", "loop", "public loop", "threads, secure", "loop, secure")
HTTP_DOORS = ("httpx threads", "httpx loop", "httpx2 threads", "httpx2 loop", "aiohttp")
WITHIN_S = 90

pytestmark = pytest.mark.processes
each_order = pytest.mark.parametrize("order", ["before", "after"])


def run(program, *arguments):
    done = subprocess.run(
        [sys.executable, PROGRAMS / program, *arguments],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@each_order
@pytest.mark.parametrize("who", ["opentelemetry", "sentry", "both", "by hand"])
def test_instrumented_grpc_calls_have_the_spans_and_headers_of_native_ones(who, order):
    for found in run("grpc_client.py", who, order, *GRPC_DOORS).values():
        again = found["ours"].pop("again")
        assert found["ours"] == found["native"]
        assert len(found["ours"]["call"]["spans"]) == 1
        assert found["ours"]["call"]["sent"] == [True]
        # One span for two attempts, which are of one trace.
        assert len(again["spans"]) == 1
        assert (again["sent"], again["traces"]) == ([True, True], 1)


@each_order
@pytest.mark.parametrize("who", ["opentelemetry", "sentry", "both"])
def test_instrumented_requests_have_the_spans_and_headers_of_plain_ones(who, order):
    for door, found in run("http_client.py", who, order, *HTTP_DOORS).items():
        again = found.pop("again")
        assert found["ours"] == found["others"] == found["plain"]
        known = who != "sentry" or not door.startswith("httpx2")  # Sentry knows httpx only
        assert len(found["ours"]["spans"]) == known
        assert (len(again["spans"]), again["sent"], again["traces"]) == (known, [known] * 2, 1)


def test_an_attempt_s_own_span_is_the_child_of_its_call_s():
    doors = ("threads", "future", "loop", "httpx", "httpx loop", "aiohttp")
    assert run("nested.py") == {door: [1, 2] for door in doors}


class Opaque(grpc.Channel):
    """A channel of which nobody knows what is beneath."""

    def __init__(self, made):
        self.__made = made

    def close(self):
        self.__made.close()

    def unary_unary(self, *given, **more):
        return self.__made.unary_unary(*given, **more)

    def _none(self, *_given, **_more):
        raise NotImplementedError

    subscribe = unsubscribe = unary_stream = stream_unary = stream_stream = _none
    __enter__ = __exit__ = _none


def say(channel):
    return channel.unary_unary("/trimtab.test.Echo/Say")(b"", timeout=WITHIN_S)


def test_what_can_t_be_followed_is_logged_and_breaks_no_call(monkeypatch, caplog, servers):
    usual = grpc.insecure_channel
    target = servers.open("a").target
    shared = Opaque(usual(target))
    monkeypatch.setattr(grpc, "insecure_channel", lambda *_a: shared)
    with trimtab.insecure_channel("orders", endpoints=[target]) as channel:
        say(channel)
    say(shared)  # it may be others', too
    shared.close()
    (told,) = [r.getMessage() for r in caplog.records if r.name == "trimtab.client"]
    assert "has been replaced, and gives a Opaque" in told
    assert "channel to orders are not instrumented" in told


async def test_what_can_t_be_followed_on_a_loop_is_logged_and_breaks_no_call(
    monkeypatch, caplog, servers
):
    target = servers.open("a").target
    monkeypatch.setattr(grpc.aio, "insecure_channel", lambda *_a, **_k: object())
    async with trimtab.aio.insecure_channel("orders", endpoints=[target]) as channel:
        await say(channel)
    (told,) = [r.getMessage() for r in caplog.records if r.name == "trimtab.client"]
    assert "grpc.aio.insecure_channel() has been replaced, and gives a object" in told


async def test_endpoints_and_control_planes_are_reached_past_the_instrumentation(
    monkeypatch, servers
):
    made = []
    for module in (grpc, grpc.aio):
        usual = module.insecure_channel

        def replaced(target, *given, usual=usual, **more):
            made.append(target)
            return usual(target, *given, **more)

        monkeypatch.setattr(module, "insecure_channel", replaced)
    with ControlPlane() as plane:
        plane.set("orders.shop:8080", [servers.open("a").target])
        more = {"bootstrap": plane.bootstrap()}
        with trimtab.insecure_channel("xds:///orders.shop:8080", **more) as channel:
            await asyncio.to_thread(say, channel)
        async with trimtab.aio.insecure_channel("xds:///orders.shop:8080", **more) as channel:
            await say(channel)
    assert made == ["orders.shop:8080"] * 2
