"""The servers' own count of what they executed, while they are killed: a small ``chaos.executions``.

Over HTTP a run that is long enough to show something takes minutes: ``tests/client/http/test_killed_http_server.py`` kills
one server with one request.
"""

import pytest
from chaos.executions import AGAIN, DOORS, GRPC, PLAIN, measure

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("door", [name for name, door in DOORS.items() if door.serves == GRPC])
def test_what_is_not_declared_is_never_executed_twice(door):
    found, told = measure(door, {PLAIN: 8_000, AGAIN: 4_000})
    plain, again = found[PLAIN], found[AGAIN]
    assert told.kills > 0
    # The control: a server rests between the work and its answer, so a call that is made again shows.
    assert again.twice > 0
    assert plain.twice == 0
    assert plain.lost == again.lost == 0
    assert plain.good + sum(plain.failed.values()) == plain.calls
    # All that breaks at a stroke may be made again.
    assert not again.failed
