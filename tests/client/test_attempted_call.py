"""Attempts of blocking stubs' streams, where two things happen at the same moment."""

import threading
import time
from random import Random

from harness.waiting import eventually
from trimtab.attempt import MethodPlans, Plan, Retry
from trimtab.balancer import Balancer
from trimtab.client.alarms import Alarms
from trimtab.client.attempted_call import AttemptedStream, Run
from trimtab.client.attempts import Attempts

clock = time.monotonic  # noqa: TID251 - Alarms wait in real time


class Native:
    """A call of gRPC's whose first message comes just as it is cancelled."""

    def __init__(self):
        self.comes = lambda: None
        self.taken = None
        self.cancelled = threading.Event()

    def add_callback(self, _callback):
        return True

    def cancel(self):
        self.taken = self.comes()
        self.cancelled.set()


def test_a_message_that_comes_as_its_attempt_is_given_up_is_not_the_callers():
    made = []

    def begin(_left):
        native = Native()
        native.comes = lambda: run.open(native)
        made.append(native)
        return native

    balancer = Balancer("orders.shop:80", clock=clock, random=Random(1))
    plans = MethodPlans({"": Plan(Retry(2, attempt_timeout_s=0.02, backoff_s=0.0))})
    state = Attempts(plans, Random(1), balancer).begin("/a.A/M", None, clock())
    run = Run(state, clock, Alarms(clock), begin, stream=True, end=None)
    call = AttemptedStream(run, None, clock)
    run.start(call)
    first = made[0]
    assert first.cancelled.wait(10)
    assert first.taken is False
    assert call.waiting
    run.ended(first)  # as whoever reads does when gRPC says so
    eventually(lambda: len(made) == 2, within=20, what="another attempt is made")
    call.cancel()
