"""Waiting, for jobs that do something now and then: by the loop's clock, so that tests can set it."""

from __future__ import annotations

import asyncio


async def pause(seconds: float) -> None:
    """Let that much loop time pass."""
    loop = asyncio.get_running_loop()
    passed = loop.create_future()
    timer = loop.call_later(seconds, passed.set_result, None)
    try:
        await passed
    finally:
        timer.cancel()
