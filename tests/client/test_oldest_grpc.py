"""Both doors on the oldest grpcio that pyproject.toml allows: the same hooks, the same ends of calls."""

import subprocess

import pytest

from harness.versions import oldest_python

pytestmark = pytest.mark.processes

PROGRAM = """
import asyncio, threading
from concurrent.futures import ThreadPoolExecutor
import grpc
from trimtab.client import observing
from trimtab.client.aio_picking import missing_hook
from trimtab.client.grpc_aio import insecure_channel

held = threading.Event()
held_up = threading.Event()

class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        def answer(request, context):
            if request == b"hold":
                held.set()
                held_up.wait(10)
            return request
        return grpc.unary_unary_rpc_method_handler(answer)

class Watching:
    def __init__(self):
        self.told = []
    def attempt(self, sent):
        return lambda status, **_: self.told.append(status)
    def call(self, service, method):
        return self.told.append

async def main():
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((Handler(),))
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    watching = Watching()
    print("missing:", repr(missing_hook()))
    for observer in (None, watching):
        remove = observing.install(observer) if observer else lambda: None
        channel = insecure_channel("orders", endpoints=[target])
        remove()
        held.clear()
        await channel.channel_ready()
        call = channel.unary_unary("/a.B/C")
        assert await call(b"x", timeout=10) == b"x"
        under_way = call(b"hold", timeout=10)
        await asyncio.to_thread(held.wait, 10)
        await channel.close()
        try:
            await under_way
        except asyncio.CancelledError:
            print(channel.trimtab.in_flight, "in flight after its end")
    print(watching.told)
    held_up.set()
    server.stop(None)

asyncio.run(main())
"""

BLOCKING = """
from concurrent.futures import ThreadPoolExecutor
import grpc
import trimtab
from trimtab.client.sync_exchange import missing_in_blocking

class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(self.answer)
    def answer(self, request, context):
        if request == b"fail":
            context.abort(grpc.StatusCode.NOT_FOUND, "not here")
        return request

server = grpc.server(ThreadPoolExecutor(2))
server.add_generic_rpc_handlers((Handler(),))
target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
server.start()
print("missing:", repr(missing_in_blocking()))
with trimtab.insecure_channel("orders", endpoints=[target]) as channel:
    call = channel.unary_unary("/a.B/C")
    print(call(b"x", timeout=10))
    try:
        call(b"fail", timeout=10)
    except grpc.RpcError as error:
        print(error.code().name, error.details())
    print(channel.trimtab.in_flight, "in flight after their ends")
server.stop(None)
"""


REPLACED = """
import asyncio
import grpc, grpc.aio
made = []

def noted(make):
    return lambda target, *given, **more: made.append(target) or make(target, *given, **more)

for module in (grpc, grpc.aio):
    module.insecure_channel = noted(module.insecure_channel)
import trimtab, trimtab.aio

def end(channel):
    try:
        channel.unary_unary("/a.B/C")(b"", timeout=10)
    except grpc.RpcError as error:
        print(error.code().name)

async def main():
    async with trimtab.aio.insecure_channel("orders", endpoints=["127.0.0.1:1"]) as channel:
        try:
            await channel.unary_unary("/a.B/C")(b"", timeout=10)
        except grpc.aio.AioRpcError as error:
            print(error.code().name)

with trimtab.insecure_channel("orders", endpoints=["127.0.0.1:1"]) as channel:
    end(channel)
asyncio.run(main())
print(made)
"""


def ran(program):
    """The lines that it prints."""
    made = subprocess.run(
        [oldest_python(), "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert made.returncode == 0, made.stderr
    return made.stdout.splitlines()


def test_asyncio_calls_end_once_and_as_on_the_newest():
    assert ran(PROGRAM) == [
        "missing: ''",
        "0 in flight after its end",
        "0 in flight after its end",
        "['OK', 'CANCELLED']",
    ]


def test_blocking_calls_end_as_on_the_newest():
    assert ran(BLOCKING) == [
        "missing: ''",
        "b'x'",
        "NOT_FOUND not here",
        "0 in flight after their ends",
    ]


def test_endpoints_are_reached_past_instrumentation_as_on_the_newest():
    assert ran(REPLACED) == ["UNAVAILABLE", "UNAVAILABLE", "['orders', 'orders']"]
