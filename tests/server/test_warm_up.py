"""Warm-up, and whom readiness tells."""

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from random import Random

import grpc
import grpc.aio
import pytest

from trimtab.backoff import Backoff
from trimtab.server import Readiness, Warmup
from trimtab.server.warm_up_rounds import Rounds
from trimtab.testing import FakeClock

NOT_SERVING, SERVING = b"\x08\x02", b"\x08\x01"


async def test_not_ready_until_all_steps_passed():
    readiness, seen = Readiness(), []

    async def coroutine():
        seen.append(readiness.ready)

    def function():
        seen.append(readiness.ready)

    assert await Warmup([coroutine, function]).run(readiness)
    assert seen == [False, False]
    assert readiness.ready


async def test_a_step_that_fails_runs_again_and_the_server_is_not_ready_before_it_passed(caplog):
    readiness, ran = Readiness(), []

    def fails_twice():
        ran.append(("fails", readiness.ready))
        if len(ran) < 5:
            raise LookupError("on purpose")

    async def passes():
        ran.append(("passes", readiness.ready))

    with caplog.at_level(logging.ERROR):
        assert await Warmup([fails_twice, passes]).run(readiness)
    # What passed is not done again, and what fails does not hold it up.
    assert [name for name, _ in ran] == ["fails", "passes", "fails", "fails", "fails"]
    assert not any(ready for _, ready in ran)
    assert readiness.ready
    assert caplog.text.count("fails_twice failed") == 3


async def test_a_step_that_always_fails_holds_readiness_until_the_limit(caplog):
    readiness, seen = Readiness(), []

    def fails():
        seen.append(readiness.ready)
        raise LookupError("on purpose")

    with caplog.at_level(logging.WARNING):
        assert not await Warmup([fails], limit_s=0.3).run(readiness)
    assert len(seen) > 1
    assert not any(seen)
    assert readiness.ready
    assert "limit of 0.3 s: ready without" in caplog.text


def test_rounds_wait_longer_each_time_and_never_past_the_limit():
    rounds = Rounds(3, now=100.0, limit_s=10.0, backoff=Backoff(Longest(), cap_s=5.0))
    assert rounds.left == (0, 1, 2)
    rounds.passed(1)
    assert rounds.left == (0, 2)
    clock, pauses = FakeClock(100.0), []
    while (pause := rounds.pause(clock())) is not None:
        pauses.append(pause)
        clock.advance(pause)
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 3.7])
    assert clock() == pytest.approx(110.0)


def test_rounds_end_when_all_have_passed():
    rounds = Rounds(1, now=0.0, limit_s=10.0, backoff=Backoff(Longest()))
    rounds.passed(0)
    assert rounds.pause(0.0) is None


class Longest(Random):
    """Draws the longest delay."""

    def uniform(self, a, b):
        return b


@pytest.mark.parametrize("kind", ["coroutine", "function"])
def test_at_the_limit_the_server_is_ready_all_the_same(kind, caplog):
    readiness, let_go = Readiness(), threading.Event()

    async def hangs():
        await asyncio.Event().wait()

    steps = [hangs] if kind == "coroutine" else [let_go.wait]
    assert not Warmup(steps, limit_s=0.1).run_blocking(readiness)
    let_go.set()
    assert readiness.ready
    assert "limit of 0.1 s: ready without" in caplog.text


async def test_a_warm_up_that_ends_after_the_drain_began_changes_nothing():
    readiness = Readiness()
    readiness.end()
    await Warmup([]).run(readiness)
    assert not readiness.ready


@pytest.mark.parametrize("kind", ["threads", "loop"])
async def test_health_says_what_readiness_says_to_checkers_and_watchers(kind):
    readiness = Readiness()
    server = grpc.server(ThreadPoolExecutor(4)) if kind == "threads" else grpc.aio.server()
    readiness.add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    started = server.start()
    if started is not None:
        await started
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=10)
        assert await check(b"") == NOT_SERVING
        assert await watch.read() == NOT_SERVING
        readiness.ready = True
        assert await watch.read() == SERVING
        assert await check(b"") == SERVING
        readiness.end()
        assert await watch.read() == NOT_SERVING
        watch.cancel()
    stopped = server.stop(None)
    if kind == "threads":
        stopped.wait(10)
    else:
        await stopped


async def test_the_http_path_answers_and_the_rest_goes_to_the_application():
    readiness, sent = Readiness(), []

    async def app(scope, _receive, _send):
        sent.append(scope["path"])

    async def send(message):
        sent.append(message.get("status") or message["body"])

    ready_or_app = readiness.asgi(app)
    await ready_or_app({"type": "http", "path": "/readyz"}, None, send)
    readiness.ready = True
    await ready_or_app({"type": "http", "path": "/readyz"}, None, send)
    await ready_or_app({"type": "http", "path": "/orders"}, None, send)
    assert sent == [503, b"not ready\n", 200, b"ready\n", "/orders"]
