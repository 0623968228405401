"""What becomes of an HTTP request's attempts that are given up, when giving them up fails."""

import asyncio
import threading
import time
from random import Random

import pytest

from harness.waiting import eventually
from trimtab.attempt import Budget, Ended, Retry
from trimtab.client.http_attempts import HttpAttempts, HttpCall
from trimtab.client.http_hedging import HedgedInThreads, HedgedOnLoop, Tried
from trimtab.client.http_plans import HttpPlans

clock = time.monotonic  # noqa: TID251 - attempts overlap in real time
BAD = Ended(502)


def call():
    rules = HttpAttempts(
        HttpPlans(Retry(3, on=[502], hedge_after_s=0.0, backoff_s=0.0)), Budget(), clock, Random(1)
    )
    return HttpCall(rules, "GET", repeatable=True)


class OnLoop:
    """One attempt after the other ends as ``ends`` says; None: it lasts. All discards raise ``problem``."""

    def __init__(self, ends, problem):
        self.ends = iter(ends)
        self.problem = problem
        self.discarded = []
        self.cancelled = 0
        self.under_way = asyncio.Event()
        self.discarding = asyncio.Event()

    async def attempt(self):
        end = next(self.ends)
        if end is not None:
            if end.ended is None:
                await self.under_way.wait()
            return end
        self.under_way.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def discard(self, response):
        self.discarded.append(response)
        self.discarding.set()
        if self.problem is None:
            self.problem = OSError("the next one")
            await asyncio.Event().wait()
        raise self.problem

    def hedged(self):
        return HedgedOnLoop(call(), self.attempt, self.discard, clock).to_its_end()


async def test_a_discard_that_raises_neither_replaces_the_answer_nor_leaves_attempts_on_a_loop():
    ends = (Tried("bad", None, BAD), None, Tried("good", None, None))
    attempts = OnLoop(ends, OSError("broken"))
    assert await attempts.hedged() == "good"
    assert attempts.discarded == ["bad"]
    await asyncio.sleep(0)  # noqa: TID251 - a turn, in which the cancelled one ends
    assert attempts.cancelled == 1


async def test_a_caller_who_is_cancelled_while_one_is_discarded_leaves_no_response_open():
    ends = (Tried("bad", None, BAD), None, Tried("good", None, None))
    attempts = OnLoop(ends, None)
    request = asyncio.ensure_future(attempts.hedged())
    await attempts.discarding.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert attempts.discarded == ["bad", "good"]
    assert attempts.cancelled == 1


class InThreads:
    """As ``OnLoop``; the one that lasts does until ``let_go``."""

    def __init__(self, ends):
        self.ends = iter(ends)
        self.discarded = []
        self.under_way = threading.Event()
        self.let_go = threading.Event()

    def attempt(self):
        end = next(self.ends)
        if end.response == "late":
            self.under_way.set()
            assert self.let_go.wait(10)
        elif end.ended is None:
            assert self.under_way.wait(10)
        return end

    def discard(self, response):
        self.discarded.append(response)
        raise OSError("broken")


def test_a_discard_that_raises_neither_replaces_the_answer_nor_leaves_attempts_in_threads():
    ends = (Tried("bad", None, BAD), Tried("late", None, None), Tried("good", None, None))
    attempts = InThreads(ends)
    hedged = HedgedInThreads(call(), attempts.attempt, attempts.discard, clock)
    assert hedged.to_its_end() == "good"
    assert attempts.discarded == ["bad"]
    attempts.let_go.set()
    eventually(
        lambda: attempts.discarded == ["bad", "late"], within=20, what="the late one is discarded"
    )


@pytest.mark.parametrize("can_start", [False, True], ids=["none", "the first"])
def test_where_no_thread_can_start_the_request_is_answered_without_hedges(can_start, monkeypatch):
    start, left, refused = threading.Thread.start, [1] * can_start, threading.Event()

    def some_start(thread):
        if thread.name == "trimtab-hedge":
            if not left:
                refused.set()
                raise RuntimeError("can't start new thread")
            left.pop()
        start(thread)

    def attempt():
        assert not can_start or refused.wait(20)  # until a hedge was due
        return Tried("good", None, None)

    monkeypatch.setattr(threading.Thread, "start", some_start)
    hedged = HedgedInThreads(call(), attempt, lambda _response: None, clock)
    assert hedged.to_its_end() == "good"
