"""A pod is killed after it has done what a request wants and before it answers: is that done again?"""

import sys

import pytest

import trimtab
from harness.process import Process

VICTIM = """
import os, signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Victim(BaseHTTPRequestHandler):
    def do_GET(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        os.write(done, self.path.encode())
        os.kill(os.getpid(), signal.SIGKILL)
    do_POST = do_GET
done = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
server = HTTPServer(("127.0.0.1", 0), Victim)
print("port", server.server_port, flush=True)
server.serve_forever()
"""
MOST = 20  # requests until one meets the victim


@pytest.fixture
def victim(tmp_path):
    """Its address, and the file in which it says what it has done."""
    done = tmp_path / "done"
    process = Process("victim", [sys.executable, "-c", VICTIM, str(done)])
    port = int(process.expect(r"port (\d+)", within=20)[1])
    yield f"127.0.0.1:{port}", done
    process.kill()


async def met(client, method, done):
    """The path of the request that met the victim, and how it ended for the caller."""
    for n in range(MOST):
        path = f"/{n}"
        content = b"order" if method == "POST" else None
        try:
            ended = (await client.send(method, f"http://orders.shop{path}", content=content)).status
        except client.errors as error:
            ended = type(error)
        if done.read_text():
            assert done.read_text() == path
            return path, ended
    raise AssertionError("nobody met the victim")


def opened(door, victim, survivor, **how):
    endpoints = {"orders.shop:80": [victim[0], survivor.target]}
    return door(endpoints=endpoints, policy="round_robin", **how)


async def test_what_was_done_and_not_declared_is_not_done_again(door, victim, servers):
    survivor = servers.open("b")
    client = opened(door, victim, survivor)
    path, ended = await met(client, "POST", victim[1])
    assert issubclass(ended, client.errors)
    assert survivor.served[path] == 0


@pytest.mark.parametrize(
    ("method", "how"),
    [("GET", {}), ("POST", {"retries": {"POST": trimtab.Retry(on=[503])}})],
    ids=["safe by its method", "declared"],
)
async def test_what_may_be_done_twice_is_done_elsewhere_and_the_caller_has_his_answer(
    method, how, door, victim, servers
):
    survivor = servers.open("b")
    client = opened(door, victim, survivor, **how)
    path, ended = await met(client, method, victim[1])
    assert ended == 200
    assert survivor.served[path] == 1
