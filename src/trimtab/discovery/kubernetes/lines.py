"""Bytes as they come from a watch, cut into lines. Pure.

On bytes and not on text, since a chunk may end inside a character; by hand and not by a stream
reader, since those have limits far below the size of a large EndpointSlice.
"""

from __future__ import annotations

from trimtab.errors import ProtocolError

MAX_LINE = 64 << 20  # etcd refuses objects above 1.5 MB, whose JSON is a few times as large


class Lines:
    """The lines of one stream.

    Args:
        limit: a longer line [bytes] is an error, since it would grow for ever.
    """

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._parts: list[bytes] = []  # of the line that has not ended
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that end in ``chunk``, without their ends; empty ones are left out.

        Raises:
            ProtocolError: a line is longer than the limit.
        """
        *ended, rest = chunk.split(b"\n")
        if ended:
            ended[0] = b"".join((*self._parts, ended[0]))
            self._parts.clear()
            self._size = 0
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
        if self._size > self._limit:
            raise ProtocolError(
                f"a line of more than {self._limit} bytes; a watch sends one object per line"
            )
        return [line for line in ended if line.strip()]
