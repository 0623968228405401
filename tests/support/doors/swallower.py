"""A way to a server that can swallow all that is sent over it, as a network does whose route is gone."""

import asyncio
import contextlib

from doors.loop import Loop


class Swallower:
    """Passes on what comes until ``swallow``; then nothing, not even that a connection was closed."""

    def __init__(self, port):
        self._loop = Loop()
        self._port = port
        self._open = asyncio.Event()
        self._open.set()
        self._server = self._loop.run(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]

    def swallow(self):
        self._loop.do(self._open.clear)

    def pass_on(self):
        self._loop.do(self._open.set)

    def close(self):
        async def close():
            self._server.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self._loop.run(close())
        self._loop.stop()

    async def _accept(self, reader, writer):
        await self._open.wait()
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._copy(reader, inner_writer))
                both.create_task(self._copy(inner_reader, writer))
        finally:
            inner_writer.close()
            writer.close()

    async def _copy(self, source, to):
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                await self._open.wait()
                to.write(data)
        await self._open.wait()
        to.close()
