"""A caller's iterator of requests on an event loop: read once, in order, sent by one attempt after the other.

One task reads it, a message whenever an attempt asks for one that is not there yet. So what the iterator waits
for is not cut off when an attempt ends, and it stays in one task to its end. Requests that are written with
``write()`` come as an iterator, too: gRPC's chain of interceptors makes one of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import nullcontext
from typing import Any

from trimtab.attempt import Kept, Recording, Step

_WRITTEN = "_proxy_writes_as_request_iterator"  # gRPC's own iterator of what is written


_log = logging.getLogger("trimtab.client")


class RecordedRequests:
    """The requests of one call.

    Args:
        requests: the caller's iterator, of either kind.
        limit: how many bytes are kept.

    Attributes:
        recording: what was read so far.
    """

    def __init__(self, requests: AsyncIterable[Any] | Iterable[Any], limit: int) -> None:
        self.recording = Recording(limit, nullcontext())
        self._requests = requests
        self._reader: asyncio.Task[None] | None = None
        self._asked = asyncio.Event()
        self._over = False
        self._news: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def attempt(self) -> AsyncIterator[Kept]:
        """What another attempt sends."""
        return self._messages(self.recording.begin())

    async def _messages(self, attempt: int) -> AsyncIterator[Kept]:
        # It stops when its attempt has ended, too; nothing can be sent then, nor a stream be half-closed.
        recording = self.recording
        while True:
            found = recording.take(attempt)
            if isinstance(found, Kept):
                yield found
            elif found is Step.READ:
                self._read_on()
                await asyncio.shield(self._news)
            elif found is Step.WAIT:
                await asyncio.shield(self._news)
            elif found is Step.END and recording.error is not None:
                raise recording.error
            else:
                return

    def _read_on(self) -> None:
        self._asked.set()
        if self._reader is None:
            self._reader = asyncio.Task(self._read())

    async def _read(self) -> None:
        try:
            if isinstance(self._requests, AsyncIterable):
                async for message in self._requests:
                    await self._add(message)
            else:
                for message in self._requests:
                    await self._add(message)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - raised where the attempt comes to it
            self.recording.end(error)
            # The caller sees a call that was cancelled, and no more.
            if isinstance(error, Exception):
                _log.warning(
                    "The iterator of a call's requests raised; the call ends", exc_info=error
                )
        else:
            self.recording.end()
        self._tell()

    async def _add(self, message: Any) -> None:
        self._asked.clear()
        self.recording.add(message)
        self._tell()
        if self._over:
            self.stop()
        await self._asked.wait()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.get_running_loop().create_future()
        news.set_result(None)

    def stop(self) -> None:
        """The caller wants no answer: his iterator is cancelled, as gRPC does."""
        if self._reader is not None:
            self._reader.cancel()

    def over(self) -> None:
        """Nobody will ask for another message; what the iterator waits for now it may wait for, as with gRPC.

        Unless nothing can come of it: what waits for ``write()`` would wait for ever.
        """
        self._over = True
        self.recording.commit()
        written = getattr(getattr(self._requests, "ag_code", None), "co_name", "") == _WRITTEN
        if written or not self._asked.is_set():
            self.stop()
