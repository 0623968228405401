"""The quick part of the chaos suite (``make chaos``): its own rows, trimtab's client, counts of failures."""

import pytest
from chaos.rows import QUICK, ROWS
from chaos.run import run
from chaos.stage import IN_TURN, PODS, TRIMTAB

RATE = 100
SOON_S = 2  # after which nothing fails any more

# Of requests in flight to a pod when it dies or freezes; the pods of the test work on less than one each.
MOST_ERRORS = {"kill": 3, "freeze": 4, "zone": 4, "goaway": 0, "plane-kill": 0}
MOST_SLOW = 2  # of some 800: a machine that stands still for a second
# By turns a pod that is used on gets that many every second: for five more, and each would be slow. On a machine
# so busy that half of the pods seem silent, all get another chance, which is a few.
MOST_LATE = {TRIMTAB: MOST_SLOW, IN_TURN: RATE // PODS}

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("name", QUICK)
def test_next_to_no_request_fails(name):
    (row,) = (row for row in ROWS if row.name == name)
    frozen = name == "freeze"
    # The default policy hardly uses a frozen pod, noticed or not.
    clients = [TRIMTAB, IN_TURN] if frozen else [TRIMTAB]
    for client, (sent, failed) in run(row, clients, RATE, warm_s=1, after_s=2).items():
        assert sent > 5 * RATE
        slow = [each for each in failed if each[1].startswith("DEADLINE_EXCEEDED")]
        errors = [each for each in failed if each not in slow]
        assert len(errors) <= MOST_ERRORS[name], errors
        assert not late(errors), errors
        assert len(late(slow)) <= MOST_LATE[client], (client, slow)
        if client == TRIMTAB:
            held = MOST_ERRORS[name] if frozen else 0  # what a frozen pod holds is slow, too
            assert len(slow) <= MOST_SLOW + held, slow


def late(failed):
    return [each for each in failed if each[0] >= SOON_S]
