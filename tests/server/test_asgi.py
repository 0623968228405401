"""The ASGI middleware."""

import asyncio

import pytest

from trimtab.load_codec import decode
from trimtab.server.asgi import LoadReports


async def ask(app, kind="http"):
    """One request; returns what the application sent."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    await app({"type": kind}, receive, send)
    return sent


def report(sent):
    return decode(dict(sent[0]["headers"])[b"endpoint-load-metrics"])


def answering(status=200, headers=()):
    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": b"x"})

    return app


async def test_the_header_leaves_with_the_application_s_own_headers():
    sent = await ask(LoadReports(answering(headers=[(b"x-own", b"kept")])))
    assert (b"x-own", b"kept") in sent[0]["headers"]
    assert report(sent).in_flight == 0
    assert sent[1]["body"] == b"x"


async def test_what_else_is_there_is_said():
    go_on = asyncio.Event()
    answer = answering()

    async def app(scope, receive, send):
        if not go_on.is_set():
            go_on.set()
            await asyncio.Event().wait()
        await answer(scope, receive, send)

    reporting = LoadReports(app)
    held = asyncio.create_task(ask(reporting))
    await go_on.wait()
    assert report(await ask(reporting)).in_flight == 1
    held.cancel()
    with pytest.raises(asyncio.CancelledError):
        await held
    assert reporting.load.in_flight == 0


async def test_the_latency_of_failed_requests_is_not_said():
    reporting = LoadReports(answering(status=503))
    await ask(reporting)
    assert report(await ask(reporting)).latency is None


async def test_an_exception_passes_and_leaves_nothing_in_flight():
    async def app(_scope, _receive, _send):
        raise LookupError("on purpose")

    reporting = LoadReports(app)
    with pytest.raises(LookupError):
        await ask(reporting)
    assert reporting.load.in_flight == 0


async def test_a_report_of_the_application_s_own_is_left_alone():
    own = (b"Endpoint-Load-Metrics", b"TEXT eps=1")
    sent = await ask(LoadReports(answering(headers=[own])))
    assert sent[0]["headers"] == [own]


async def test_other_kinds_of_conversations_pass_by():
    async def app(scope, _receive, send):
        await send({"type": "websocket.accept"})

    assert await ask(LoadReports(app), "websocket") == [{"type": "websocket.accept"}]
