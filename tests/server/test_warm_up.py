"""Warm-up, and whom readiness tells."""

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import grpc.aio
import pytest

from trimtab.server import Readiness, Warmup

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


async def test_a_step_that_fails_is_logged_and_the_rest_runs(caplog):
    readiness, ran = Readiness(), []

    def fails():
        raise LookupError("on purpose")

    with caplog.at_level(logging.ERROR):
        assert not await Warmup([fails, lambda: ran.append(1)]).run(readiness)
    assert ran == [1]
    assert readiness.ready
    assert "fails failed" in caplog.text


@pytest.mark.parametrize("kind", ["coroutine", "function"])
def test_at_the_limit_the_server_is_ready_all_the_same(kind, caplog):
    readiness, let_go = Readiness(), threading.Event()

    async def hangs():
        await asyncio.Event().wait()

    steps = [hangs] if kind == "coroutine" else [let_go.wait]
    assert not Warmup(steps, limit_s=0.1).run_blocking(readiness)
    let_go.set()
    assert readiness.ready
    assert "limit of 0.1 s in step" in caplog.text


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
