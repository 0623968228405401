"""The budget of further attempts, used from several threads."""

import sys
import threading

import pytest

from trimtab.attempt import Budget
from trimtab.attempt.budget import Throttle

THREADS, EACH = 8, 3_000


@pytest.fixture
def impatient():
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_threads_spend_what_there_is_and_no_more(impatient):
    floor = float(THREADS * EACH // 2)
    throttle = Throttle(1000.0, 1.0)
    budget = Budget(ratio=0.0, floor=floor, throttle=throttle, lock=threading.Lock())
    spent = []

    def spend():
        spent.append(sum(budget.spend() for _ in range(EACH)))

    threads = [threading.Thread(target=spend) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(spent) == floor
