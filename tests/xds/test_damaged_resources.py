"""Answers that no control plane should send, read by a client. ``bench/fuzz_resources.py`` has more of them."""

from random import Random

import pytest

from damaged_resources import Answers


@pytest.mark.parametrize("seed", [1, 2])
def test_no_answer_breaks_a_client_or_its_last_good_state(seed):
    answers = Answers(Random(seed))
    for turn in range(2_000):
        answers.damage()
        if turn % 100 == 0:
            answers.recover()
    answers.recover()
    assert answers.outcomes.keys() == {"no answer at all", "refused", "taken", "no news"}
