"""gunicorn --preload: channels from before its fork say so, and those made in the workers work."""

import sys
import urllib.error
import urllib.request

import pytest

from doors.servers import Servers
from harness.process import Process

pytestmark = pytest.mark.processes

APP = """
import functools, os
import trimtab

TARGET = os.environ["ORDERS"]

def open_channel(pid):
    return trimtab.insecure_channel("orders", endpoints=[TARGET]).unary_unary("/trimtab.test.Echo/Say")

before = open_channel(0)  # gunicorn loads this once, and forks
before(b"", timeout=10)
mine = functools.lru_cache(open_channel)

def app(environ, start_response):
    say = before if environ["PATH_INFO"] == "/before" else mine(os.getpid())
    try:
        say(b"", timeout=10)
        text, status = f"pid {os.getpid()}", "200 OK"
    except ValueError as error:
        text, status = str(error), "500 Wrong"
    start_response(status, [("Content-Type", "text/plain")])
    return [text.encode()]
"""


@pytest.fixture
def served(echo, tmp_path):
    servers = Servers(echo)
    (tmp_path / "shop.py").write_text(APP)
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "1", "--bind"]
    process = Process(
        "gunicorn",
        [*command, "127.0.0.1:0", "--chdir", str(tmp_path), "--no-control-socket", "shop:app"],
        env={"ORDERS": servers.open("a").target},
    )
    address = process.expect(r"Listening at: (http://\S+)", within=30)[1]
    yield address
    process.terminate()
    servers.close()


def got(url):
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_under_preload_the_worker_s_own_channel_works_and_the_parent_s_says_what_to_do(served):
    assert got(f"{served}/own")[0] == 200
    status, text = got(f"{served}/before")
    assert status == 500
    assert "made before the process forked" in text
    assert "make it in the child" in text
    assert got(f"{served}/own")[0] == 200
