"""How many calls may wait for a review, and how many reviews are under way: of all, of one address."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

_AT_ONCE = 16
_AT_ONCE_OF_ONE = 4


@dataclass(slots=True)
class _Address:
    calls: int = 0
    reviews: int = 0
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE_OF_ONE))


class ReviewPlaces:
    """Shares them out, so that who sends garbage from one address holds up no other.

    Args:
        calls: the most calls that may wait.
        calls_of_one: of one address.
    """

    def __init__(self, calls: int, calls_of_one: int) -> None:
        self._most = calls
        self._most_of_one = calls_of_one
        self._calls = 0
        self._addresses: dict[str, _Address] = {}
        self._places = asyncio.Semaphore(_AT_ONCE)

    def full(self, address: str) -> str:
        """The limit that one more waiting call of that address would break; "" if none."""
        known = self._addresses.get(address)
        if known is not None and known.calls >= self._most_of_one:
            return f"limits.pending_per_address: {self._most_of_one}"
        return f"limits.pending_streams: {self._most}" if self._calls >= self._most else ""

    @contextlib.contextmanager
    def call(self, address: str) -> Iterator[None]:
        """Count one call of that address while it waits."""
        known = self._addresses.setdefault(address, _Address())
        self._calls += 1
        known.calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            known.calls -= 1
            self._tidy(address, known)

    @contextlib.asynccontextmanager
    async def review(self, address: str) -> AsyncIterator[None]:
        """Wait for a place for one review, and hold it."""
        known = self._addresses.setdefault(address, _Address())
        known.reviews += 1
        try:
            async with known.places, self._places:
                yield
        finally:
            known.reviews -= 1
            self._tidy(address, known)

    def _tidy(self, address: str, known: _Address) -> None:
        if not known.calls and not known.reviews:
            del self._addresses[address]
