"""The connections of an httpx pool, which hear of a server's GOAWAY in the way that ``Farewell`` says.

They stand between the pool and its network backend, as httpcore's own interfaces have it; connections that
speak HTTP/1.1 are passed by. A pool whose server leaves is told apart by ``left``, so that another takes the
requests from then on; what is under way in it goes on.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from trimtab.client.http2_farewell import PREFACE, Farewell

Left = Callable[[], None]

_PART = 0.5  # of the longest wait for an answer; servers built on h2 leave and answer nothing more


class _Stream:
    """What both kinds share.

    Args:
        plain: the library's own.
        late: what it raises where nothing came in time.
        left: called when the server says that it leaves.
    """

    def __init__(self, plain: Any, late: type[Exception], left: Left) -> None:
        self._plain = plain
        self._late = late
        self._left = left
        self._farewell: Farewell | None = None
        self._is_new = True
        self.get_extra_info = plain.get_extra_info

    def _written(self, data: bytes) -> bytes:
        if self._is_new:
            self._is_new = False
            if data.startswith(PREFACE):
                self._farewell = Farewell()
        return data if self._farewell is None else self._farewell.sent(data)

    @staticmethod
    def _patience(farewell: Farewell, timeout: float | None) -> float | None:
        return _PART * timeout if farewell.left and timeout else timeout

    def _read(self, farewell: Farewell, data: bytes) -> bytes:
        had_left = farewell.left
        found = farewell.received(data)
        if farewell.left and not had_left:
            self._left()
        return found


class AsyncStream(_Stream):
    """One connection on an event loop."""

    def __init__(self, plain: Any, late: type[Exception], left: Left) -> None:
        super().__init__(plain, late, left)
        self._writing = asyncio.Lock()  # the pool writes one at a time; to close is ours

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's
        """See httpcore."""
        farewell = self._farewell
        if farewell is None:
            return await self._plain.read(max_bytes, timeout)  # type: ignore[no-any-return]
        found = farewell.waiting()
        while not found:
            try:
                data = await self._plain.read(max_bytes, self._patience(farewell, timeout))
            except self._late:
                if not farewell.left:
                    raise
                return farewell.given_up()
            if not data:
                return b""
            found = self._read(farewell, data)
            if farewell.over:
                async with self._writing:
                    await self._plain.aclose()
                return found or farewell.waiting()
        return found

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as above
        """See httpcore."""
        async with self._writing:
            data = self._written(buffer)
            if data:
                await self._plain.write(data, timeout)

    async def start_tls(self, *args: Any, **options: Any) -> AsyncStream:
        """See httpcore."""
        return AsyncStream(await self._plain.start_tls(*args, **options), self._late, self._left)

    async def aclose(self) -> None:
        """See httpcore."""
        await self._plain.aclose()


class AsyncBackend:
    """The network as a pool on an event loop knows it.

    Args:
        plain: the pool's own.
        late: what it raises where nothing came in time.
        left: called when a server says that it leaves a connection.
    """

    def __init__(self, plain: Any, late: type[Exception], left: Left) -> None:
        self._plain = plain
        self._late = late
        self._left = left
        self.sleep = plain.sleep

    async def connect_tcp(self, *args: Any, **options: Any) -> AsyncStream:
        """See httpcore."""
        return AsyncStream(await self._plain.connect_tcp(*args, **options), self._late, self._left)

    async def connect_unix_socket(self, *args: Any, **options: Any) -> AsyncStream:
        """See httpcore."""
        return AsyncStream(
            await self._plain.connect_unix_socket(*args, **options), self._late, self._left
        )


class SyncStream(_Stream):
    """One connection in threads."""

    def __init__(self, plain: Any, late: type[Exception], left: Left) -> None:
        super().__init__(plain, late, left)
        self._writing = threading.Lock()  # as above

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """See httpcore."""
        farewell = self._farewell
        if farewell is None:
            return self._plain.read(max_bytes, timeout)  # type: ignore[no-any-return]
        found = farewell.waiting()
        while not found:
            try:
                data = self._plain.read(max_bytes, self._patience(farewell, timeout))
            except self._late:
                if not farewell.left:
                    raise
                return farewell.given_up()
            if not data:
                return b""
            found = self._read(farewell, data)
            if farewell.over:
                with self._writing:
                    self._plain.close()
                return found or farewell.waiting()
        return found

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """See httpcore."""
        with self._writing:
            data = self._written(buffer)
            if data:
                self._plain.write(data, timeout)

    def start_tls(self, *args: Any, **options: Any) -> SyncStream:
        """See httpcore."""
        return SyncStream(self._plain.start_tls(*args, **options), self._late, self._left)

    def close(self) -> None:
        """See httpcore."""
        self._plain.close()


class SyncBackend:
    """The network as a pool in threads knows it; arguments as of ``AsyncBackend``."""

    def __init__(self, plain: Any, late: type[Exception], left: Left) -> None:
        self._plain = plain
        self._late = late
        self._left = left
        self.sleep = plain.sleep

    def connect_tcp(self, *args: Any, **options: Any) -> SyncStream:
        """See httpcore."""
        return SyncStream(self._plain.connect_tcp(*args, **options), self._late, self._left)

    def connect_unix_socket(self, *args: Any, **options: Any) -> SyncStream:
        """See httpcore."""
        return SyncStream(self._plain.connect_unix_socket(*args, **options), self._late, self._left)
