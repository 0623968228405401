"""One address before several servers, as a Service has one before its pods.

A new connection goes to the next of the servers that are ready; an open one stays where it is until one
of its ends closes it.
"""

import asyncio
import contextlib
import threading

READ_BYTES = 1 << 16


class OneAddress:
    """Splices TCP connections, on a thread with a loop of its own.

    Attributes:
        address: where clients connect.
        arrivals: when each connection came [s], on a clock of its own, and which server it was led to; "": to none.
    """

    def __init__(self):
        self.arrivals = []
        self._ready = ()
        self._open = {}  # task: the writers of its two ends
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=4096))
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"

    def lead_to(self, *addresses):
        """These servers are ready from now on, and no other."""
        self._ready = addresses

    def cut(self):
        """Close every connection that is open; new ones are taken."""
        self._do(self._cut())

    def stop(self):
        """Close everything."""
        if not self._thread.is_alive():
            return
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self):
        self._server.close()
        await self._cut()

    async def _cut(self):
        # Not by cancelling: asyncio's streams log a handler that was cancelled as a fault.
        for ends in self._open.values():
            for writer in ends:
                writer.transport.abort()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _accept(self, reader, writer):
        ready = self._ready
        led_to = ready[(len(self.arrivals) + 1) % len(ready)] if ready else ""
        self.arrivals.append((self._loop.time(), led_to))
        if not led_to:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        ends = self._open[task] = [writer]
        try:
            host, _, port = led_to.rpartition(":")
            server = await asyncio.open_connection(host, int(port))
            ends.append(server[1])
            await self._splice((reader, writer), server)
        except OSError:
            pass  # that server has just gone; the client comes again
        finally:
            del self._open[task]
            writer.transport.abort()

    async def _splice(self, client, server):
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(_forward(client[0], server[1]))
                ways.create_task(_forward(server[0], client[1]))
        finally:
            server[1].transport.abort()

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)


def busiest_second(arrivals):
    """The most connections within any second; the moments [s] in order."""
    most = first = 0
    for last, at in enumerate(arrivals):
        while at - arrivals[first] > 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


async def _forward(reader, writer):
    """Until there is no more to read; then the other side learns that, too."""
    with contextlib.suppress(OSError):
        while data := await reader.read(READ_BYTES):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
