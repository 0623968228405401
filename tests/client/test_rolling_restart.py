"""Every pod is replaced under load, in the short form of the benchmark."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "rolling_restart.py"


@pytest.mark.processes
@pytest.mark.parametrize("client", ["trimtab, asyncio", "trimtab, threads"])
def test_no_request_fails_while_every_pod_is_replaced(client):
    ran = subprocess.run(
        [sys.executable, BENCH, "--requests", "2000", "--pods", "3", "--callers", "8", "--json",
         "--client", client, "--end", "drains"],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    row = json.loads(ran.stdout)
    assert row["replaced"] >= 3
    assert row["requests"] >= 2000
    assert row["failed"] == 0, row["errors"]
