"""Waiting for what an interruption of the very thread that waits may bring about."""

import signal
import threading

from harness.interrupting import signal_that_wakes_nobody
from harness.stepping import at_one_line_after_the_other
from harness.waiting import eventually
from trimtab.client import wakeup
from trimtab.client.wakeup import Waiters, Wakeup


def test_a_ring_at_each_step_of_a_wait_ends_that_or_the_next_one():
    def run(interrupted):
        bell, rung = Wakeup(), []

        def ring():
            rung.append(True)
            bell.ring()

        with interrupted(ring):
            heard = bell.wait(0.2)
        assert heard or bell.wait(0.0) is bool(rung)

    assert at_one_line_after_the_other(run, wakeup) > 1


def test_what_comes_true_at_each_step_of_a_wait_for_it_ends_the_wait():
    def run(interrupted):
        waiters, true = Waiters(), []

        def come():
            true.append(True)
            waiters.tell()

        def wait():
            with interrupted(come):
                assert waiters.wait_for(lambda: true)

        waiting = threading.Thread(target=wait, daemon=True)
        waiting.start()
        eventually(
            lambda: waiters._waiting or not waiting.is_alive(), within=20, what="it is about to"
        )
        if not true:
            come()  # nothing has come in between so far
        eventually(lambda: not waiting.is_alive(), within=20, what="it has ended")

    assert at_one_line_after_the_other(run, wakeup) > 5


def test_rings_before_a_wait_are_one():
    bell = Wakeup()
    for _ in range(3):
        bell.ring()
    assert bell.wait(0.0)
    assert not bell.wait(0.0)


def test_a_handler_whose_signal_does_not_wake_the_thread_that_waits_ends_the_wait():
    waiters, true = Waiters(), []

    def come(*_signal):
        true.append(True)
        waiters.tell()

    with signal_that_wakes_nobody(signal.SIGUSR1, come) as rescued:
        assert waiters.wait_for(lambda: true)
    assert not rescued
