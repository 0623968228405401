"""An HTTP/2 server on loopback that ends each request as the test says, right or wrong."""

import contextlib
import socket
import threading

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from hyperframe.frame import GoAwayFrame

LONGEST_S = 20
_GRPC = [(":status", "200"), ("content-type", "application/grpc")]


def message(body, *, flag=0, length=None):
    """A message as gRPC frames it; ``flag`` and ``length`` may lie."""
    return bytes([flag]) + (len(body) if length is None else length).to_bytes(4, "big") + body


class Exchange:
    """One request, and what can be sent back.

    Attributes:
        stream: its stream's number.
        h2: the connection's protocol machine.
        body: of the request.
    """

    def __init__(self, server, protocol, sock, stream, body):
        self._server = server
        self.h2 = protocol
        self.stream = stream
        self.body = body
        self._sock = sock

    def flush(self):
        self._sock.sendall(self.h2.data_to_send())

    def raw(self, data):
        """Bytes past the protocol."""
        self.flush()
        self._sock.sendall(data)

    def begin(self, headers=()):
        """Headers: gRPC's own if there are none."""
        self.h2.send_headers(self.stream, headers or _GRPC)

    def answer(self, body):
        """A whole answer of gRPC."""
        self.begin()
        self.h2.send_data(self.stream, message(body))
        self.end([("grpc-status", "0")])

    def end(self, trailers):
        self.h2.send_headers(self.stream, trailers, end_stream=True)

    def reset(self, code):
        self.h2.reset_stream(self.stream, code)

    def go_away(self):
        """Say that this stream is the last one that is looked at; the connection stays."""
        self.raw(GoAwayFrame(0, last_stream_id=self.stream).serialize())

    def alone(self):
        """Whether no other connection of the server is open: all that came on them has been read."""
        return self._server.connections == {self.h2}

    def hang_up(self):
        """End the connection."""
        self.flush()
        self._sock.shutdown(socket.SHUT_RDWR)


class Scripted:
    """The server.

    Args:
        respond: called with the ``Exchange`` of each request that is whole, in its connection's thread.

    Attributes:
        target: its address.
        connections: the protocol machines of those that are open.
        failures: what went wrong in threads.
    """

    def __init__(self, respond):
        self._respond = respond
        self.connections = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.failures = []
        self._socks = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:  # closed
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socks.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock):
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        protocol = h2.connection.H2Connection(config)
        with self._open(protocol), sock, contextlib.suppress(OSError, h2.exceptions.ProtocolError):
            protocol.initiate_connection()
            sock.sendall(protocol.data_to_send())
            bodies = {}
            while data := sock.recv(65_536):
                for event in protocol.receive_data(data):
                    self._take(protocol, sock, event, bodies)
                sock.sendall(protocol.data_to_send())

    @contextlib.contextmanager
    def _open(self, protocol):
        self.connections.add(protocol)
        try:
            yield
        finally:
            self.connections.remove(protocol)

    def _take(self, protocol, sock, event, bodies):
        if isinstance(event, h2.events.DataReceived):
            bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
            protocol.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            try:
                body = bodies.pop(event.stream_id, b"")
                self._respond(Exchange(self, protocol, sock, event.stream_id, body))
            except (OSError, h2.exceptions.ProtocolError):
                raise
            except Exception as problem:
                self.failures.append(problem)
                raise

    def close(self):
        """End all connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(LONGEST_S)
        assert not self.failures
