"""The servers' own count of what they executed, while they are killed: a small ``chaos.executions``."""

import pytest
from chaos.executions import AGAIN, PLAIN, measure

pytestmark = pytest.mark.processes


def test_what_is_not_declared_is_never_executed_twice():
    found, kills = measure({PLAIN: 8_000, AGAIN: 4_000})
    plain, again = found[PLAIN], found[AGAIN]
    assert kills > 0
    assert plain.twice == 0
    assert plain.lost == again.lost == 0
    assert plain.good + sum(plain.failed.values()) == plain.calls
    # A kill meets some eleven calls, and the budget lets ten be made again at a stroke.
    assert sum(again.failed.values()) <= 4 * kills
