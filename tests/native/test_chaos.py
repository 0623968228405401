"""The quick part of the chaos suite (``make chaos``): its own rows, trimtab's client, counts of failures."""

import pytest
from chaos.rows import QUICK, ROWS
from chaos.run import run
from chaos.stage import TRIMTAB

RATE = 100

# Of requests in flight to a pod when it dies or freezes; the pods of the test work on less than one each.
MOST_ERRORS = {"kill": 3, "freeze": 4, "zone": 4, "goaway": 0, "plane-kill": 0}
MOST_SLOW = 2  # of some 800: a machine that stands still for a second

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("name", QUICK)
def test_next_to_no_request_fails(name):
    (row,) = (row for row in ROWS if row.name == name)
    sent, failed = run(row, [TRIMTAB], RATE, warm_s=1, after_s=2)[TRIMTAB]
    assert sent > 5 * RATE
    slow = [(at, why) for at, why in failed if why.startswith("DEADLINE_EXCEEDED")]
    errors = [each for each in failed if each not in slow]
    frozen = MOST_ERRORS[name] if name == "freeze" else 0  # what a frozen pod holds is slow, too
    assert len(errors) <= MOST_ERRORS[name], errors
    assert len(slow) <= MOST_SLOW + frozen, slow
    assert not [each for each in errors if each[0] >= 2], errors
