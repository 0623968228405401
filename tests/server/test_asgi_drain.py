"""SIGTERM to a real Hypercorn under load; clients of any make leave it when its probe says so."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from harness.waiting import Deadline

pytestmark = pytest.mark.processes

SERVER = Path(__file__).with_name("draining_asgi_server.py")
CALLERS = 10
PROBE_EVERY_S = 0.1


class Running:
    """A server process."""

    def __init__(self):
        self.process = subprocess.Popen([sys.executable, SERVER], stdout=subprocess.PIPE, text=True)
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def stop(self):
        self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture
def servers():
    made = []
    try:
        made.extend(Running() for _ in range(2))
        yield made
    finally:
        for each in made:
            each.stop()


async def pause(seconds):
    await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=seconds)


async def until(what):
    deadline = Deadline(20)
    while not what():
        assert not deadline.passed
        await pause(0.02)


class Load:
    """Callers that keep their connections, and ask who is ready as a kubelet does, now and then."""

    def __init__(self, client, servers):
        self._client = client
        self._urls = [server.url for server in servers]
        self._ready = list(self._urls)
        self._going = True
        self.answered = dict.fromkeys(self._urls, 0)
        self.failed = []
        self.tasks = [asyncio.create_task(self._call(n)) for n in range(CALLERS)]
        self.tasks.append(asyncio.create_task(self._probe()))

    async def end(self):
        self._going = False
        await asyncio.gather(*self.tasks)

    async def _call(self, number):
        while self._going:
            number += 1
            url = self._ready[number % len(self._ready)]
            try:
                answer = await self._client.get(url)
                assert answer.status_code == 200
                self.answered[url] += 1
            except httpx.HTTPError as problem:
                self.failed.append(problem)

    async def _probe(self):
        async with httpx.AsyncClient(timeout=10) as prober:
            while self._going:
                for url in list(self._ready):
                    try:
                        ready = (await prober.get(f"{url}/readyz")).status_code == 200
                    except httpx.HTTPError:
                        ready = False
                    if not ready:
                        self._ready.remove(url)
                await pause(PROBE_EVERY_S)


async def test_no_http_request_is_lost_when_a_server_drains_under_load(servers):
    drained, other = servers
    async with httpx.AsyncClient(timeout=10) as client:
        load = Load(client, servers)
        await until(lambda: min(load.answered.values()) > 50)
        slow = asyncio.create_task(client.get(f"{drained.url}/slow"))
        await pause(0.1)  # it is under way
        drained.process.send_signal(signal.SIGTERM)
        clock = Deadline(40)
        assert await asyncio.to_thread(drained.process.wait, 40) == 0
        assert clock.elapsed < 25, "it stopped before its grace was over"
        assert (await slow).text == "done"
        before = load.answered[other.url]
        await until(lambda: load.answered[other.url] > before + 50)
        await load.end()
    assert load.failed == []


async def test_while_the_news_spreads_requests_are_taken_and_connections_end(servers):
    server, _ = servers
    async with httpx.AsyncClient(timeout=10) as client:
        answer = await client.get(server.url)
        assert "connection" not in answer.headers
        assert (await client.get(f"{server.url}/readyz")).status_code == 200
        server.process.send_signal(signal.SIGTERM)
        while (answer := await client.get(f"{server.url}/readyz")).status_code == 200:
            pass
        assert answer.headers["connection"] == "close"
        late = await client.get(server.url)
        assert (late.text, late.headers["connection"]) == ("done", "close")
    assert await asyncio.to_thread(server.process.wait, 20) == 0
