"""Waiting, for jobs that do something now and then: by the loop's clock, so that tests can set it."""

from __future__ import annotations

import asyncio


async def pause(seconds: float) -> None:
    """Let that much loop time pass."""
    loop = asyncio.get_running_loop()
    passed: asyncio.Future[None] = loop.create_future()
    timer = loop.call_later(seconds, _end, passed)
    try:
        await passed
    finally:
        timer.cancel()


def _end(passed: asyncio.Future[None]) -> None:
    if not passed.done():  # else cancelled in the very turn in which it ends
        passed.set_result(None)
