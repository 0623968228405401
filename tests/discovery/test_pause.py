"""A pause that is cancelled."""

import asyncio

import pytest

from trimtab.discovery.pause import pause


async def test_a_pause_that_is_cancelled_in_the_turn_of_its_end_complains_of_nothing():
    loop = asyncio.get_running_loop()
    complaints = []
    loop.set_exception_handler(lambda _loop, context: complaints.append(context))
    pausing = loop.create_task(pause(0))
    loop.call_soon(loop.call_soon, pausing.cancel)  # after it has begun, before its timer
    with pytest.raises(asyncio.CancelledError):
        await pausing
    assert complaints == []
