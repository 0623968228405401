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


@pytest.fixture
def server(echo):
    servers = Servers(echo)
    yield servers.open("a")
    servers.close()


def test_a_channel_from_before_the_fork_says_so(server):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, server.target],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["child 0 parent well"], done.stderr
    assert WHY in done.stdout


# Not in a real child: one that forks beside gRPC's asyncio thread sometimes dies of it by itself.
@pytest.mark.parametrize("kind", loop.DOORS)
def test_an_asyncio_channel_says_so(kind, server, echo):
    door = loop.DOORS[kind](echo)
    channel = door.open([server.target])
    channel.say(echo[0].Request(), timeout=10)
    channel.raw.forked()
    with pytest.raises(grpc.aio.UsageError, match=WHY):
        channel.say(echo[0].Request(), timeout=10)
    door.close()


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
        done = subprocess.run(
            [sys.executable, "-c", HTTP_SCRIPT.format(library=library), f"127.0.0.1:{server.port}"],
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
    finally:
        server.stop()
    assert done.stdout.splitlines() == [
        "child 200",
        "grandchild 200 True",
        "parent 200 200",
    ], done.stderr
