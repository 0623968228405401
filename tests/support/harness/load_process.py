"""A gRPC client in a process of its own: ``python -m harness.load_process LIBRARY``.

LIBRARY is ``grpc.aio`` or what has the same signatures, ``trimtab.aio``; or ``http1``. gRPC reads its xDS
bootstrap once per process. Commands: ``call`` once; ``start`` an open-loop load
over several roads, told of every 100 ms; ``stop`` it and count what is left. The Node client in
``interop/node`` speaks the same way.
"""

import asyncio
import importlib
import logging
import sys
from collections import Counter

import grpc
import grpc.aio

from harness.conversation import read_commands, tell
from harness.echo_service import METHOD, SERVICE
from harness.failed import Failed

REPORT_EVERY_S = 0.1
CALL_WITHIN_S = 15
# Open loop, but bounded: a road that hangs is an error, not a full memory.
MOST_IN_FLIGHT = 2000


class Client:
    """Channels by target."""

    def __init__(self, library):
        self._library = library
        self._channels = {}
        self._methods = {}

    async def who(self, road, work_ms, within):
        """The name of the server that answered."""
        target = road["target"]
        if target not in self._channels:
            channel = self._library.insecure_channel(target)
            self._channels[target] = channel
            self._methods[target] = channel.unary_unary(f"/{SERVICE}/{METHOD}")
        metadata = tuple(road.get("metadata", {}).items())
        payload = str(work_ms).encode()
        try:
            answer = await self._methods[target](payload, metadata=metadata, timeout=within)
        except grpc.aio.AioRpcError as error:
            raise Failed(f"{error.code().name}: {error.details()}") from None
        return answer.decode()

    async def close(self):
        for channel in self._channels.values():
            await channel.close(None)


class Load:
    """One request after the other at a fixed rate, whatever the earlier ones do."""

    def __init__(self, client, roads, rate, work_ms):
        self._client = client
        self._roads = list(roads.items())
        self._work_ms = work_ms
        self._loop = asyncio.get_running_loop()
        self._begin = self._loop.time()
        self._gap = 1 / rate
        self._sent = 0
        self._tasks = set()
        self._counts = {name: Counter() for name in roads}
        self._errors = {name: Counter() for name in roads}
        self._timers = {}
        self._send()
        self._report()

    async def stop(self):
        """Send nothing more; wait for what is under way."""
        for timer in self._timers.values():
            timer.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tell()

    def _send(self):
        while self._begin + self._sent * self._gap <= self._loop.time():
            name, road = self._roads[self._sent % len(self._roads)]
            self._sent += 1
            if len(self._tasks) >= MOST_IN_FLIGHT:
                self._errors[name][f"not sent: {MOST_IN_FLIGHT} requests are under way"] += 1
                continue
            task = self._loop.create_task(self._request(name, road))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._timers["send"] = self._loop.call_at(self._begin + self._sent * self._gap, self._send)

    async def _request(self, name, road):
        try:
            server = await self._client.who(road, self._work_ms, CALL_WITHIN_S)
        except Failed as error:
            self._errors[name][str(error)] += 1
        else:
            self._counts[name][server] += 1

    def _report(self):
        self._tell()
        self._timers["report"] = self._loop.call_later(REPORT_EVERY_S, self._report)

    def _tell(self):
        roads = {n: {"served": self._counts[n], "errors": self._errors[n]} for n, _ in self._roads}
        tell({"report": roads})


async def call(client, number, road, work_ms, within):
    loop = asyncio.get_running_loop()
    begin = loop.time()
    server, error = None, None
    try:
        server = await client.who(road, work_ms, within)
    except Failed as failure:
        error = str(failure)
    tell({"called": number, "server": server, "error": error, "seconds": loop.time() - begin})


def _client(library):
    if library == "http1":
        from harness.http1_client import Http1Client  # noqa: PLC0415 - interpreters without aiohttp

        return Http1Client()
    return Client(importlib.import_module(library))


async def serve(library):
    client = _client(library)
    load = None
    calls = set()
    async for command in read_commands():
        match command.pop("do"):
            case "call":
                task = asyncio.create_task(call(client, **command))
                calls.add(task)
                task.add_done_callback(calls.discard)
            case "start":
                load = Load(client, **command)
            case "stop":
                await load.stop()
                tell({"stopped": True})
    await client.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)  # on stderr, which tests may read
    asyncio.run(serve(sys.argv[1]))
