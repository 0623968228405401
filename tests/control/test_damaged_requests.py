"""Requests that nobody would send, on a running control plane. ``bench/fuzz_requests.py`` has more of them."""

from random import Random

import pytest

from damaged_requests import Fuzzing
from plane import QueueSource, running, updated
from trimtab.control.config import Config
from trimtab.control.limits import Limits
from trimtab.model import Synced


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_request_breaks_anything_and_no_stream_is_left(seed):
    source = QueueSource(updated("orders", 1, 2), Synced())
    config = Config(limits=Limits(requests_per_second=1e9, request_burst=1_000_000))
    async with running(source, config=config) as plane:
        await plane.store.synced.wait()
        fuzzing = Fuzzing(plane, Random(seed))
        await fuzzing.run(1_000)
    # What is good is answered, and what is damaged refused: both have happened.
    assert {"OK", "INVALID_ARGUMENT"} <= fuzzing.ends.keys()
