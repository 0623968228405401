"""What a client does of a server's GOAWAY, frame by frame (RFC 9113, section 6.8). No I/O.

The HTTP/2 of httpx reads nothing after a GOAWAY: it loses the answers that are still to come, and doesn't say
which requests the server has not looked at. So the frame is kept from it, and the connection ends when the
requests that the server goes on with have. Those that it doesn't go on with are refused (``RST_STREAM`` with
``REFUSED_STREAM``, which means just that: section 8.7), and so are those that leave too late; they are not sent.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client's first bytes are, and no HTTP/1.1 request's."""

REFUSED_STREAM = 7
"""RFC 9113, section 7."""

_HEAD = 9  # bytes before each frame's payload
_DATA, _HEADERS, _RST_STREAM, _PUSH_PROMISE, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = (
    0,
    1,
    3,
    5,
    7,
    8,
    9,
)
_END_STREAM, _END_HEADERS = 1, 4
_ID_BITS = 0x7FFF_FFFF


class Farewell:
    """One connection's frames, both ways. Safe to use from a thread that reads and one that writes.

    A request that is refused while its body is being sent is told so at the body's end: the library can't hear
    it before. Till then its bytes are dropped, and the windows that they took are given back.

    Attributes:
        left: whether the server has said that it leaves.
        over: whether nothing more is to come of the connection, or go.
    """

    def __init__(self) -> None:
        self.left = False
        self._lock = threading.Lock()
        self._open: set[int] = set()  # that the server may answer
        self._sending: dict[int, int] = {}  # of those, bodies that go on: the window they took
        self._dropping: set[int] = set()  # bodies that go on, of refused requests
        self._words: list[bytes] = []  # for the client, as if from the server
        self._goaway = b""
        self.over = False
        self._in_headers = False
        self._rest = b""

    def sent(self, data: bytes) -> bytes:
        """What of the client's whole frames is to be written; after a GOAWAY no new request's."""
        begin = len(PREFACE) if data.startswith(PREFACE) else 0
        with self._lock:
            kept = [data[:begin]]
            for kind, flags, stream, frame in _frames(data, begin):
                if kind == _HEADERS and not self.left:
                    self._open.add(stream)
                    self._sending[stream] = 0
                elif kind == _HEADERS and stream not in self._open:
                    self._dropping.add(stream)
                if stream in self._dropping:
                    self._drop(kind, flags, stream, frame)
                    continue
                if not self.over and (not self.left or not stream or stream in self._open):
                    kept.append(frame)
                if stream in self._sending and kind == _DATA:
                    self._sending[stream] += len(frame) - _HEAD
                if kind in {_DATA, _HEADERS} and flags & _END_STREAM:
                    self._sending.pop(stream, None)
            return b"".join(kept)

    def _drop(self, kind: int, flags: int, stream: int, frame: bytes) -> None:
        took = len(frame) - _HEAD
        if kind == _DATA and took:
            self._words += [_more(0, took), _more(stream, took)]
        if kind in {_DATA, _HEADERS} and flags & _END_STREAM:
            self._dropping.discard(stream)
            self._words.append(_refusal(stream))

    def waiting(self) -> bytes:
        """What the client is to read before anything else comes from the server; "": nothing."""
        if not self.left:
            return b""
        with self._lock:
            said = self._spoken()
            return said or self._goaway if self.over else said

    def given_up(self) -> bytes:
        """What the client is to read where the server goes on with nothing, whatever it said."""
        with self._lock:
            self.over = True
            return self._spoken() + self._goaway

    def received(self, data: bytes) -> bytes:
        """What the client is to read of it: whole frames; "": nothing yet."""
        with self._lock:
            data = self._rest + data
            kept, end = [], 0
            for kind, flags, stream, frame in _frames(data, 0):
                end += len(frame)
                if kind == _GOAWAY:
                    kept.append(self._leaves(frame))
                    continue
                if self.over:
                    continue
                kept.append(frame)
                if kind == _WINDOW_UPDATE and stream in self._sending:
                    self._sending[stream] -= int.from_bytes(frame[_HEAD:], "big")
                if kind in {_HEADERS, _PUSH_PROMISE, _CONTINUATION}:
                    self._in_headers = not flags & _END_HEADERS
                if kind == _RST_STREAM or (kind in {_DATA, _HEADERS} and flags & _END_STREAM):
                    self._open.discard(stream)
            self._rest = data[end:]
            kept.append(self._spoken())
            if self.left and not self._open and not self._in_headers:
                self.over = True
            return b"".join(kept)

    def _leaves(self, frame: bytes) -> bytes:
        """A GOAWAY; there may be several, and each one's last stream is at most that of the one before."""
        last = int.from_bytes(frame[_HEAD : _HEAD + 4], "big") & _ID_BITS
        error = int.from_bytes(frame[_HEAD + 4 : _HEAD + 8], "big")
        self.left = True
        self._goaway = frame
        for stream in sorted(stream for stream in self._open if stream > last):
            self._open.discard(stream)
            took = self._sending.pop(stream, None)
            if took is None:
                self._words.append(_refusal(stream))
                continue
            self._dropping.add(stream)
            if took > 0:
                self._words.append(_more(stream, took))
        if not error or self.over:
            return b""
        self.over = True  # nothing will follow
        return self._spoken() + frame

    def _spoken(self) -> bytes:
        if self._in_headers:  # nothing may come between these frames
            return b""
        said, self._words = b"".join(self._words), []
        return said


def _frames(data: bytes, begin: int) -> Iterator[tuple[int, int, int, bytes]]:
    """Whole frames: type, flags, stream, all of it."""
    while len(data) >= begin + _HEAD:
        end = begin + _HEAD + int.from_bytes(data[begin : begin + 3], "big")
        if len(data) < end:
            return
        stream = int.from_bytes(data[begin + 5 : begin + _HEAD], "big") & _ID_BITS
        yield data[begin + 3], data[begin + 4], stream, data[begin:end]
        begin = end


def _refusal(stream: int) -> bytes:
    return _word(_RST_STREAM, stream, REFUSED_STREAM)


def _more(stream: int, window: int) -> bytes:
    return _word(_WINDOW_UPDATE, stream, window)


def _word(kind: int, stream: int, number: int) -> bytes:
    head = (4).to_bytes(3, "big") + bytes([kind, 0])
    return head + stream.to_bytes(4, "big") + number.to_bytes(4, "big")
