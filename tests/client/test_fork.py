"""Channels from before a fork, in the child: an error that says what to do, and no call that hangs."""

import subprocess
import sys

import grpc
import grpc.aio
import pytest

from doors import loop
from doors.servers import Servers
from http_servers import HttpServer

pytestmark = pytest.mark.processes

WITHIN_S = 60
WHY = "made before the process forked"
# The parent calls, forks, and calls again; each prints what came of it. A child that hangs is ended.
SCRIPT = """
import os, signal, sys
import trimtab

channel = trimtab.insecure_channel("shop", endpoints=[sys.argv[1]])
say = channel.unary_unary("/trimtab.test.Echo/Say")
say(b"", timeout=10)
child = os.fork()
if not child:
    signal.alarm(20)
    try:
        say(b"", timeout=10)
    except ValueError as error:
        print(error, flush=True)
    channel.close()
    os._exit(0)
_, status = os.waitpid(child, 0)
say(b"", timeout=10)
print("child", status, "parent well", flush=True)
"""


def ran(script, target):
    return subprocess.run(
        [sys.executable, "-c", script, target],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )


@pytest.fixture
def server(echo):
    servers = Servers(echo)
    yield servers.open("a")
    servers.close()


def test_a_channel_from_before_the_fork_says_so(server):
    done = ran(SCRIPT, server.target)
    assert done.stdout.splitlines()[-1:] == ["child 0 parent well"], done.stderr
    assert WHY in done.stdout


SHOWN_SCRIPT = """
import os, signal, sys
import trimtab
from trimtab.client.metrics import read

def show(who):
    values = {metric.name: found for metric, found in read()}
    states = [line for line in trimtab.debug().splitlines() if sys.argv[1] in line]
    print(who, sum(values["trimtab_client_channels"].values()), len(states), flush=True)

def call():
    channel = trimtab.insecure_channel("shop", endpoints=[sys.argv[1]])
    channel.unary_unary("/trimtab.test.Echo/Say")(b"", timeout=10)
    return channel

call().close()
channel = call()
show("parent")
child = os.fork()
if not child:
    signal.alarm(20)
    show("child")
    own = call()
    show("child")
    own.close()
    os._exit(0)
os.waitpid(child, 0)
show("parent")
"""


def test_the_channels_from_before_the_fork_are_shown_by_the_parent_alone(server):
    done = ran(SHOWN_SCRIPT, server.target)
    said = ["parent 1.0 1", "child 0 0", "child 1.0 1", "parent 1.0 1"]
    assert done.stdout.splitlines() == said, done.stderr


HELD_SCRIPT = """
import os, signal, threading
from trimtab.client import call_details, fallback, live_metrics, policy_errors

LOCKS = [call_details._lock, fallback._counting, live_metrics._reading, policy_errors._counting]
held = threading.Event()

def hold():
    for lock in LOCKS:
        lock.acquire()
    held.set()
    threading.Event().wait(0.5)  # the fork comes in between, or waits
    for lock in LOCKS:
        lock.release()

threading.Thread(target=hold).start()
held.wait()
child = os.fork()
if not child:
    signal.alarm(40)
    print("child", [lock.acquire(timeout=5) for lock in LOCKS], flush=True)
    os._exit(0)
os.waitpid(child, 0)
print("parent", [lock.acquire(timeout=5) for lock in LOCKS], flush=True)
"""


def test_a_lock_that_another_thread_holds_as_the_process_forks_is_free_in_the_child(server):
    done = ran(HELD_SCRIPT, server.target)
    free = [True] * 4
    assert done.stdout.splitlines() == [f"child {free}", f"parent {free}"], done.stderr


# Not in a real child: one that forks beside gRPC's asyncio thread sometimes dies of it by itself.
@pytest.mark.parametrize("kind", loop.DOORS)
def test_an_asyncio_channel_says_so(kind, server, echo):
    door = loop.DOORS[kind](echo)
    channel = door.open([server.target])
    channel.say(echo[0].Request(), timeout=10)
    channel.raw.forked()
    with pytest.raises(grpc.aio.UsageError, match=WHY):
        channel.say(echo[0].Request(), timeout=10)
    channel.run(close_all_the_same(channel.raw._cluster))
    door.close()


async def close_all_the_same(cluster):
    """Close what a child would leave to its parent: here they are one."""
    cluster.close()
    await cluster.release_all()


HTTP_SCRIPT = """
import os, signal, sys
import {library}
from trimtab.{library} import Transport

transport = Transport(endpoints={{"shop:80": [sys.argv[1]]}})
client = {library}.Client(transport=transport)
before = client.get("http://shop/x").status_code
child = os.fork()
if not child:
    signal.alarm(20)
    print("child", client.get("http://shop/x").status_code, flush=True)
    of_child = {{id(each) for each in transport._clusters}}
    if not os.fork():
        signal.alarm(10)
        status = client.get("http://shop/x").status_code
        own = of_child.isdisjoint(id(each) for each in transport._clusters)
        print("grandchild", status, own, flush=True)
        os._exit(0)
    os.wait()
    os._exit(0)
_, status = os.waitpid(child, 0)
print("parent", before, client.get("http://shop/x").status_code, flush=True)
"""


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_an_http_client_from_before_the_fork_connects_anew_in_each_generation(library):
    server = HttpServer("a")
    try:
        done = ran(HTTP_SCRIPT.format(library=library), f"127.0.0.1:{server.port}")
    finally:
        server.stop()
    assert done.stdout.splitlines() == [
        "child 200",
        "grandchild 200 True",
        "parent 200 200",
    ], done.stderr
