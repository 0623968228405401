"""A service fails everything, at the end of a chain in which each service calls with a retry: the benchmark, in short."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "outage.py"
BEFORE_S, OUTAGE_S, AFTER_S = 1, 1, 1
SAVED, RATIO = 10, 0.2  # of each channel's budget


@pytest.mark.processes
def test_in_an_outage_each_hop_of_a_chain_makes_a_fifth_and_ten_more_and_none_once_it_is_over():
    ran = subprocess.run(
        [sys.executable, BENCH, "--peer", "trimtab, each hop", "--before", str(BEFORE_S),
         "--seconds", str(OUTAGE_S), "--after", str(AFTER_S), "--json"],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    made = json.loads(ran.stdout)["made"]
    end = BEFORE_S + OUTAGE_S
    assert len(made) == 4  # the client's requests, and the executions of three services
    for asked, executed in pairwise(made):
        before = sum(n for second, n in asked.items() if int(second) < end)
        more = sum(n for second, n in executed.items() if int(second) < end) - before
        assert 0 < more <= SAVED + RATIO * before
        for second in range(end, end + AFTER_S):
            assert 0 < executed[str(second)] <= asked[str(second)]
