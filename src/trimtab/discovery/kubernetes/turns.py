"""Long work in short turns, so that nobody else on the loop waits for its end.

By time and not by number: an event may be a byte or a megabyte.
"""

from __future__ import annotations

import asyncio

TURN_S = 0.004


class Turn:
    """Begins when it is made. To be asked between two steps of the work.

    Args:
        most_s: how long it may last [s].
    """

    __slots__ = ("_ends", "_loop", "_most_s")

    def __init__(self, most_s: float = TURN_S) -> None:
        self._loop = asyncio.get_running_loop()
        self._most_s = most_s
        self._ends = self._loop.time() + most_s

    @property
    def over(self) -> bool:
        """Whether it has lasted long enough."""
        return self._loop.time() >= self._ends

    async def give(self) -> None:
        """Let all others that are ready have their turn; then the next one begins."""
        turned = self._loop.create_future()
        self._loop.call_soon(turned.set_result, None)
        await turned
        self._ends = self._loop.time() + self._most_s
