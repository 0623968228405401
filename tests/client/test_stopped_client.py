"""A client process that is itself stopped for a while, as in a pause of its machine."""

import contextlib

import pytest

from doors.servers import Servers
from doors.stopped import StoppedClient
from harness.waiting import Deadline, pause

pytestmark = pytest.mark.processes

CALLERS = 32
DOORS = ("threads", "loop")
CLIENT = """
import asyncio, json, sys
import grpc
sys.path.insert(0, sys.argv[1])
import echo_pb2, echo_pb2_grpc
import trimtab, trimtab.aio
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
replies, errors = [], []
stop = False
def tell(channel):
    ejection = channel.trimtab._stack.ejection
    print(json.dumps({"replies": replies, "errors": errors, "ejections": ejection.ejections}), flush=True)
    replies.clear(), errors.clear()
def by_threads():
    channel = trimtab.insecure_channel("orders.shop:80", endpoints=sys.argv[3:])
    stub = echo_pb2_grpc.EchoStub(channel)
    def call():
        while not stop:
            try:
                replies.append(stub.Say(echo_pb2.Request(), timeout=2).server)
            except grpc.RpcError as error:
                errors.append(error.code().name)
    threads = [Thread(target=call) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    return channel, threads
async def on_loop():
    async with trimtab.aio.insecure_channel("orders.shop:80", endpoints=sys.argv[3:]) as channel:
        stub = echo_pb2_grpc.EchoStub(channel)
        async def call():
            while not stop:
                try:
                    replies.append((await stub.Say(echo_pb2.Request(), timeout=2)).server)
                except grpc.RpcError as error:
                    errors.append(error.code().name)
        calls = [asyncio.create_task(call()) for _ in range(CALLERS)]
        while await asyncio.to_thread(sys.stdin.readline):
            tell(channel)
        globals()["stop"] = True
        await asyncio.gather(*calls)
if sys.argv[2] == "loop":
    asyncio.run(on_loop())
else:
    channel, threads = by_threads()
    while sys.stdin.readline():
        tell(channel)
    stop = True
    for thread in threads:
        thread.join()
    channel.close()
""".replace("CALLERS", str(CALLERS))


@pytest.fixture
def servers(echo):
    made = Servers(echo)
    yield made.open("a", "b", "c")
    made.close()


# Both kinds in one wait: one of them runs at a time, since one that is stopped takes nothing from the other.
@pytest.mark.parametrize("seconds", [3, 30])
def test_a_client_that_was_stopped_ejects_nobody(seconds, servers, echo):
    stubs, targets = echo[0].__file__.rpartition("/")[0], [s.target for s in servers]
    with contextlib.ExitStack() as ends:
        clients = []
        for door in DOORS:
            client = StoppedClient(CLIENT, [stubs, door, *targets], "replies")
            ends.callback(client.end)
            # A busy machine may have had some ejected as the client began.
            before = client.stop_once_served_by("abc")["ejections"]
            clients.append((client, before))
        pause(seconds)
        for client, before in clients:
            client.go_on()
            pause(0.5)
            after = client.heard()
            assert set(after["errors"]) <= {"DEADLINE_EXCEEDED"}
            assert len(after["errors"]) <= CALLERS  # those that were under way when it was stopped
            assert after["ejections"] == before
            pause(0.5)
            answered, deadline = set(), Deadline(15)
            while answered != {"a", "b", "c"}:
                assert not deadline.passed, answered
                later = client.heard()
                assert (later["errors"], later["ejections"]) == ([], before)
                answered |= set(later["replies"])
            client.end()
