"""The bodies of httpx's responses: a pick lasts until the last byte. The faces inherit them beside the library's own classes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from trimtab.balancer import Pick
from trimtab.load_report import LoadReport
from trimtab.policies import Outcome


class _Claim:
    """What a response's body holds until it ends. The faces' bodies inherit this."""

    def __init__(
        self, stream: Any, pick: Pick, outcome: Outcome, report: LoadReport | None
    ) -> None:
        self._stream = stream
        self._pick = pick
        self._outcome = outcome
        self._report = report

    def __del__(self) -> None:
        if self._pick.open:  # dropped unread: the caller lost interest
            self._pick.drop()


class _Chunks:
    """The parts of a body on an event loop. No generator: a loop keeps a list of those, and each costs more than a part."""

    __slots__ = ("_next", "_pick")

    def __init__(self, following: Callable[[], Awaitable[bytes]], pick: Pick) -> None:
        self._next = following
        self._pick = pick

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._next()
        except StopAsyncIteration:
            raise
        except Exception:
            self._pick.finish(Outcome.FAILURE)
            raise
        self._pick.node.heard = True
        return chunk


class AsyncBody(_Claim):
    """A body on an event loop."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Chunks(self._stream.__aiter__().__anext__, self._pick)

    async def aclose(self) -> None:
        """End the pick, whatever becomes of the connection."""
        try:
            await self._stream.aclose()
        finally:
            self._pick.finish(self._outcome, self._report)


class SyncBody(_Claim):
    """A body in a thread."""

    def __iter__(self) -> Iterator[bytes]:
        try:
            node = self._pick.node
            for chunk in self._stream:
                node.heard = True
                yield chunk
        except Exception:
            self._pick.finish(Outcome.FAILURE)
            raise

    def close(self) -> None:
        """End the pick, whatever becomes of the connection."""
        try:
            self._stream.close()
        finally:
            self._pick.finish(self._outcome, self._report)
