"""One client under load, in a process of its own: ``python -m chaos.load_process LIBRARY``.

Commands: ``start`` an open-loop load over a road once a first call has succeeded; ``stop`` it, and tell
how many requests were sent and which failed, with the moment at which each began (the machine's monotonic
clock, which is the same in all processes).
"""

import asyncio
import importlib
import sys
import time

import grpc.aio

from harness.conversation import read_commands, tell
from harness.echo_process import METHOD, SERVICE

DEADLINE_S = 1.0
FIRST_WITHIN_S = 20.0


class Load:
    """Requests at even intervals, whatever became of the earlier ones."""

    def __init__(self, library, target, metadata, rate, work_ms, policy, config):
        self._clock = time.monotonic  # noqa: TID251 - real processes take real time
        given = {} if policy is None else {"policy": policy}
        options = [("grpc.service_config", config)] if config else []
        self._channel = library.insecure_channel(target, options, **given)
        self._method = self._channel.unary_unary(f"/{SERVICE}/{METHOD}")
        self._how = {"metadata": tuple(metadata.items())}
        self._payload = str(work_ms).encode()
        self._rate = rate
        self._tasks = set()
        self._sending = None
        self.sent = []
        self.failed = []

    async def start(self):
        await self._method(self._payload, timeout=FIRST_WITHIN_S, wait_for_ready=True, **self._how)
        self._sending = asyncio.create_task(self._send())

    async def _send(self):
        loop, begin, n = asyncio.get_running_loop(), self._clock(), 0
        while True:
            due = begin + n / self._rate
            n += 1
            if due > self._clock():
                passed = loop.create_future()
                loop.call_later(due - self._clock(), passed.set_result, None)
                await passed
            task = asyncio.create_task(self._one())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _one(self):
        begin = self._clock()
        self.sent.append(begin)
        try:
            await self._method(self._payload, timeout=DEADLINE_S, **self._how)
        except grpc.aio.AioRpcError as error:
            self.failed.append((begin, f"{error.code().name}: {error.details()}"))

    async def stop(self):
        self._sending.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._channel.close(None)


async def main(library):
    load = None
    async for command in read_commands():
        if command.pop("do") == "start":
            load = Load(library, **command)
            await load.start()
            tell({"started": True})
        else:
            await load.stop()
            tell({"stopped": True, "sent": load.sent, "failed": load.failed})


if __name__ == "__main__":
    asyncio.run(main(importlib.import_module(sys.argv[1])))
