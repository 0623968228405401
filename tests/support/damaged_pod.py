"""A pod that answers each request with bytes of the test's choice, which need be no HTTP."""

import contextlib
import itertools
import socket
import threading

LONGEST_S = 20


class DamagedPod:
    """One listener, in a thread; so is each connection.

    Args:
        answer: what comes back, part by part; it may never end.
        closes: whether the connection ends after it.

    Attributes:
        served: requests so far.
    """

    def __init__(self, answer, *, closes=True):
        self._answer = answer
        self._closes = closes
        self._count = itertools.count()
        self.served = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.target = f"127.0.0.1:{self.port}"
        self._socks = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:  # closed
                return
            self._socks.append(sock)
            self._threads.append(threading.Thread(target=self._serve, args=(sock,), daemon=True))
            self._threads[-1].start()

    def _serve(self, sock):
        with sock, contextlib.suppress(OSError):
            while _request(sock):
                self.served = next(self._count) + 1
                for part in self._answer():
                    sock.sendall(part)
                if self._closes:
                    sock.shutdown(socket.SHUT_WR)

    def close(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(LONGEST_S)
            assert not thread.is_alive()


def _request(sock):
    """One request, whose body is ``once`` if it has any; b"": there is none."""
    data = b""
    while not data.startswith(b"PRI") and not data.endswith(
        b"\r\n\r\n" if data.startswith(b"GET") else b"once"
    ):
        more = sock.recv(65_536)
        if not more:
            return b""
        data += more
    return data
