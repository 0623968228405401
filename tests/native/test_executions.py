"""The servers' own count of what they executed, while they are killed: a small ``chaos.executions``."""

import pytest
from chaos.executions import AGAIN, DOORS, PLAIN, measure

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("door", DOORS)
def test_what_is_not_declared_is_never_executed_twice(door):
    found, kills = measure({PLAIN: 8_000, AGAIN: 4_000}, door=door)
    plain, again = found[PLAIN], found[AGAIN]
    assert kills > 0
    # The control: a server rests between the work and its answer, so a call that is made again shows.
    assert again.twice > 0
    assert plain.twice == 0
    assert plain.lost == again.lost == 0
    assert plain.good + sum(plain.failed.values()) == plain.calls
    # All that breaks at a stroke may be made again.
    assert not again.failed
