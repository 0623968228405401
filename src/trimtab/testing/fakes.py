"""A clock and a source of endpoints that do what the test tells them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from trimtab.errors import DiscoveryError
from trimtab.model import SourceEvent


class FakeClock:
    """A clock that stands still until it is told to go on.

    Example::

        clock = FakeClock()
        balancer = Balancer("orders.shop:8080", clock=clock, random=Random(1))
        clock.advance(1.5)
    """

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """The present time [s]."""
        return self.now

    def advance(self, seconds: float) -> float:
        """Let time pass [s]; return the new time.

        Raises:
            ValueError: ``seconds`` is negative: a monotonic clock does not go back.
        """
        if seconds < 0:
            raise ValueError(f"FakeClock.advance({seconds}): a monotonic clock does not go back")
        self.now += seconds
        return self.now


class FakeSource:
    """A ``discovery.Source`` that says what the test pushes, for one reader.

    Example::

        source = FakeSource(Updated(snapshot), Synced())
        source.push(Removed("orders.shop:8080"))
    """

    def __init__(self, *events: SourceEvent) -> None:
        self._queue: asyncio.Queue[SourceEvent | DiscoveryError] = asyncio.Queue()
        self.push(*events)

    def contact(self) -> None:
        """Nothing to lose contact with."""

    def push(self, *events: SourceEvent) -> None:
        """Say these next; call it on the loop that reads."""
        for event in events:
            self._queue.put_nowait(event)

    def fail(self, reason: str) -> None:
        """End the source with a ``DiscoveryError`` after what was pushed before."""
        self._queue.put_nowait(DiscoveryError(reason))

    async def events(self) -> AsyncIterator[SourceEvent]:
        """What was pushed, and what will be; see ``discovery.Source``.

        Raises:
            DiscoveryError: after ``fail``.
        """
        while True:
            event = await self._queue.get()
            if isinstance(event, DiscoveryError):
                raise event
            yield event
