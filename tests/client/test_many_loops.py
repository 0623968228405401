"""A loop for each thread, each with a channel of its own, all at once."""

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from doors.told import spec
from harness.waiting import Deadline, measured
from trimtab.client.aio_picking import PickingChannel
from trimtab.client.aio_public import PublicChannel

THREADS = 6
CALLS = 100
MANY_LOOPS = """
import asyncio, gc, importlib, sys, weakref
from trimtab.client.channel_spec import ChannelSpec
module, kind, target = sys.argv[1:]
kind = getattr(importlib.import_module(module), kind)
ended = weakref.WeakSet()
async def job():
    ended.add(asyncio.get_running_loop())
    spec = ChannelSpec.of("orders", None, None, None, policy=None, endpoints=[target], bootstrap=None)
    channel = kind(spec, ())
    await channel.unary_unary("/trimtab.test.Echo/Say")(b"", timeout=20)
    await channel.close()
gc.disable()  # a channel that is garbage keeps them, too
for _ in range(20):
    asyncio.run(job())
gc.collect()
print(len(ended))
"""


@pytest.mark.parametrize("kind", [PickingChannel, PublicChannel])
def test_every_thread_may_have_a_loop_and_a_channel_of_its_own(kind, servers, echo):
    three = servers.open("a", "b", "c")
    targets = [server.target for server in three]
    together = Barrier(THREADS)

    async def called():
        channel = kind(spec(targets, {"policy": "round_robin"}), ())
        say = echo[1].EchoStub(channel).Say
        together.wait(20)
        replies = []
        for _ in range(CALLS // 10):
            replies += await asyncio.gather(
                *(say(echo[0].Request(), timeout=20) for _ in range(10))
            )
        together.wait(20)  # all are open at the same time
        found = (channel.trimtab.in_flight, [reply.server for reply in replies])
        await channel.close()
        return found

    with ThreadPoolExecutor(THREADS) as threads:
        found = list(threads.map(lambda _: asyncio.run(called()), range(THREADS)))
    assert [in_flight for in_flight, _ in found] == [0] * THREADS
    assert [len(replies) for _, replies in found] == [CALLS] * THREADS
    assert all(set(replies) == {"a", "b", "c"} for _, replies in found)
    assert sum(server.received for server in three) == THREADS * CALLS


@pytest.mark.parametrize("kind", [PickingChannel, PublicChannel])
def test_loops_that_ended_are_kept_by_nobody(kind, servers):
    # In a process of its own: gRPC keeps all loops while anybody has a channel open.
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            MANY_LOOPS,
            kind.__module__,
            kind.__name__,
            servers.open("a").target,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # gRPC itself keeps the last one until there is another.
    assert int(done.stdout) <= 2
    assert done.stderr == ""


@pytest.mark.parametrize("kind", [PickingChannel, PublicChannel])
def test_a_channel_closes_at_once_although_its_caller_keeps_a_call(kind, servers, echo):
    server = servers.open("a")
    took = []

    async def job():
        channel = kind(spec([server.target], {}), ())
        call = echo[1].EchoStub(channel).Say(echo[0].Request(), timeout=20)
        await call
        closing = Deadline(10)
        await channel.close()
        took.append(closing.elapsed)
        return call

    while not measured(took, below=0.8):
        asyncio.run(job())
    assert min(took) < 0.8
