"""A slow loris: a port whose connections work, but whose answers come a few bytes at a time."""

import asyncio
import threading
from contextlib import suppress

BYTES, EVERY_S = 1, 0.2


class Trickle:
    """Listens at a port of 127.0.0.1 in place of a server; what that says passes byte by byte.

    Args:
        port: where it listens.
        server: the port of the server behind it.
    """

    def __init__(self, port, server):
        self._port = port
        self._server = server
        self._listening = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._run(),))

    def __enter__(self):
        self._thread.start()
        if not self._listening.wait(5):
            raise AssertionError(f"nothing listens at port {self._port}")
        return self

    def __exit__(self, *error):
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    async def _run(self):
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        self._tasks = set()
        async with await asyncio.start_server(self._accepted, "127.0.0.1", self._port):
            self._listening.set()
            await self._over.wait()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accepted(self, client, answers):
        self._tasks.add(asyncio.current_task())
        try:
            server, requests = await asyncio.open_connection("127.0.0.1", self._server)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._passed(client, requests))
                both.create_task(self._trickled(server, answers))
        except* (ConnectionError, asyncio.CancelledError):
            pass  # one side is gone, or the fault is over
        finally:
            self._tasks.discard(asyncio.current_task())
            answers.transport.abort()

    @staticmethod
    async def _passed(source, sink):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        raise ConnectionResetError

    async def _trickled(self, source, sink):
        while data := await source.read(BYTES):
            sink.write(data)
            await sink.drain()
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._over.wait()
        raise ConnectionResetError
