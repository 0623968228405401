"""The crowd of ``bench/control_upgrade.py`` ends, or says who does not."""

import asyncio

import pytest
from bench.followers import Crowd

from harness.waiting import eventually


class Deaf:
    """Runs until it was cancelled so many times: grpc.aio now and then swallows one."""

    def __init__(self, times):
        self.times = times
        self.running = False

    async def run(self):
        self.running = True
        while self.times:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.times -= 1


def crowd_of(*followers, **how):
    crowd = Crowd(list(followers), **how)
    eventually(lambda: all(f.running for f in followers), within=20, what="all run")
    return crowd


def test_a_client_that_a_cancellation_does_not_reach_is_ended_by_the_next():
    crowd = crowd_of(Deaf(times=1), Deaf(times=2))
    crowd.stop()
    crowd.stop()  # nothing is left to end


def test_a_client_that_does_not_end_is_an_error_and_not_a_benchmark_without_end():
    deaf = Deaf(times=1000)
    crowd = crowd_of(Deaf(times=1), deaf, end_within=1.0)
    with pytest.raises(AssertionError, match=r"1 of 2 clients of the crowd did not end within 1 s"):
        crowd.stop()
    deaf.times = 1
    crowd.stop()
