"""SIGTERM to a real process under load; clients leave it when its health says so."""

import asyncio
import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import grpc
import grpc.aio
import pytest

from harness.interrupting import signal_that_wakes_nobody
from harness.waiting import Deadline
from trimtab.server import serve_until_signal_blocking

SERVER = Path(__file__).with_name("draining_server.py")
# A client of any make that asks for health; round_robin is what makes gRPC ask.
OPTIONS = [
    (
        "grpc.service_config",
        json.dumps(
            {
                "loadBalancingConfig": [{"round_robin": {}}],
                "healthCheckConfig": {"serviceName": ""},
            }
        ),
    )
]


class Running:
    """The processes of one test."""

    def __init__(self, kind):
        self.kind = kind
        self.processes = []
        self.ports = []

    def start(self):
        process = subprocess.Popen(
            [sys.executable, SERVER, self.kind], stdout=subprocess.PIPE, text=True
        )
        self.processes.append(process)
        self.ports.append(int(process.stdout.readline()))

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait(10)
            process.stdout.close()


@pytest.fixture(params=["loop", "threads"])
def running(request):
    made = Running(request.param)
    try:
        made.start()
        made.start()
        yield made
    finally:
        made.stop()


@pytest.mark.processes
async def test_no_request_is_lost_when_a_server_drains_under_load(running):
    target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in running.ports)
    answered, failed, going = [], [], True
    async with grpc.aio.insecure_channel(target, options=OPTIONS) as channel:
        say = channel.unary_unary("/Test/Say")

        async def caller():
            while going:
                try:
                    await say(b"x", timeout=10)
                    answered.append(1)
                except grpc.aio.AioRpcError as problem:
                    failed.append(problem)

        await asyncio.wait_for(channel.channel_ready(), 10)
        callers = [asyncio.create_task(caller()) for _ in range(10)]
        drained = running.processes[0]
        await enough(answered, 100)
        drained.send_signal(signal.SIGTERM)
        clock = Deadline(40)
        assert await asyncio.to_thread(drained.wait, 40) == 0
        assert clock.elapsed < 25, "it stopped before its grace was over"
        await enough(answered, len(answered) + 100)
        going = False
        await asyncio.gather(*callers)
    assert failed == []


@pytest.mark.processes
async def test_requests_are_still_taken_while_the_news_spreads(running):
    port, process = running.ports[0], running.processes[0]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=20)
        while await watch.read() != b"\x08\x01":
            pass
        process.send_signal(signal.SIGTERM)
        assert await watch.read() == b"\x08\x02"
        assert await channel.unary_unary("/grpc.health.v1.Health/Check")(b"") == b"\x08\x02"
        assert await channel.unary_unary("/Test/Say")(b"late", timeout=5) == b"late"
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch.read()
    assert await asyncio.to_thread(process.wait, 20) == 0


def test_signals_at_each_step_of_the_wait_for_one_do_not_hold_it():
    """A handler runs in the thread that waits, between any two of its lines."""

    def harmless(_number, _frame):
        pass

    server = grpc.server(ThreadPoolExecutor(1))
    server.start()
    server.stop(None).wait()
    raised = 0

    def interrupting(_frame, _event, _value):
        nonlocal raised
        if signal.getsignal(signal.SIGUSR1) is not harmless:
            raised += 1
            signal.raise_signal(signal.SIGUSR1)
        return interrupting

    before, traced = signal.signal(signal.SIGUSR1, harmless), sys.gettrace()
    sys.settrace(interrupting)
    try:
        serve_until_signal_blocking(server, signals=[signal.SIGUSR1])
    finally:
        sys.settrace(traced)
        assert signal.signal(signal.SIGUSR1, before) is harmless
    assert raised > 1


def test_a_signal_that_does_not_wake_the_thread_that_waits_for_it_is_heard():
    server = grpc.server(ThreadPoolExecutor(1))
    server.start()
    server.stop(None).wait()
    with signal_that_wakes_nobody(signal.SIGUSR1, signal.SIG_IGN) as rescued:
        serve_until_signal_blocking(server, signals=[signal.SIGUSR1])
    assert not rescued


async def enough(answered, number):
    deadline = Deadline(20)
    while len(answered) < number:
        assert not deadline.passed
        await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=0.02)
