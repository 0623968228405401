"""An HTTP/2 server that leaves each connection after some requests, and goes on with those it has looked at."""

import asyncio
import threading
from collections import Counter

import h2.config
import h2.connection
import h2.errors
import h2.events
from hyperframe.frame import GoAwayFrame

LONGEST_S = 20


class Http2Leaver:
    """One pod, in a thread of this process.

    Args:
        every: requests that it has read whole on each connection when it leaves it; those that it has
            begun to read by then it looks at, too.
        late_s: how long each answer takes, so that some are under way when it leaves [s].
        mute: whether it answers nothing any more once it has left, as servers built on h2 do.
        refuses: whether it refuses each request and stays.

    Attributes:
        executions: how often each request was looked at, by its body or path.
        farewells: connections left.
        unread: requests that came too late for their connection.
        refused: requests that it refused.
    """

    def __init__(self, every, late_s=0.002, *, mute=False, refuses=False):
        self.every, self.late_s, self.mute = every, late_s, mute
        self.refuses, self.refused = refuses, 0
        self.executions = Counter()
        self.farewells = self.unread = 0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._up.wait(LONGEST_S)

    @property
    def target(self):
        return f"127.0.0.1:{self.port}"

    def close(self):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(LONGEST_S)
        assert not self._thread.is_alive()

    def _run(self):
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self):
        connections = []

        def connection():
            connections.append(_Connection(self, self._loop))
            return connections[-1]

        server = await self._loop.create_server(connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._up.set()
        await self._stop.wait()
        server.close()
        for each in connections:
            each.transport.abort()
            await each.lost.wait()


class _Connection(asyncio.Protocol):
    def __init__(self, server, loop):
        self._server, self._loop = server, loop
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        )
        self._names, self._seen, self._last = {}, 0, None
        self._under_way = set()  # streams that it has begun to read, or to answer
        self._is_done = False
        self.lost = asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport
        self._h2.initiate_connection()
        transport.write(self._h2.data_to_send())

    def connection_lost(self, _problem):
        self.lost.set()

    def data_received(self, data):
        for event in self._h2.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self._names[event.stream_id] = dict(event.headers)[":path"]
                if self._last is None:
                    self._under_way.add(event.stream_id)
            elif isinstance(event, h2.events.DataReceived):
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self._take(event.stream_id)
        if not self._is_done:
            self.transport.write(self._h2.data_to_send())

    def _take(self, stream):
        server = self._server
        if server.refuses:
            server.refused += 1
            self._h2.reset_stream(stream, h2.errors.ErrorCodes.REFUSED_STREAM)
            return
        if self._last is not None and stream > self._last:
            server.unread += 1
            return
        self._seen += 1
        server.executions[self._names.pop(stream)] += 1
        if not (server.mute and self._seen == server.every):
            self._loop.call_later(server.late_s, self._answer, stream)
        if self._seen == server.every:
            server.farewells += 1
            self._last = max(self._under_way)
            self.transport.write(self._h2.data_to_send())
            self.transport.write(GoAwayFrame(0, last_stream_id=self._last).serialize())

    def _answer(self, stream):
        if self.transport.is_closing() or (self._server.mute and self._last is not None):
            return
        self._under_way.discard(stream)
        self._h2.send_headers(stream, [(":status", "200")])
        self._h2.send_data(stream, b"{}", end_stream=True)
        self.transport.write(self._h2.data_to_send())
        if self._last is not None and not self._under_way:
            self._is_done = True
            self.transport.write_eof()  # to close now would reset what the client has not read
