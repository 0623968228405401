"""The table of Kubernetes faults names only tests that there are, and leaves no row out."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reference" / "kubernetes-faults.md").read_text()
ROWS = re.findall(r"^\| K(\d+) \|(.*)$", PAGE, re.MULTILINE)


def test_every_row_of_the_faults_is_decided():
    assert sorted({int(number) for number, _ in ROWS}) == list(range(1, 24))


def test_every_row_names_tests_that_there_are():
    for number, row in ROWS:
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", row)
        assert named, f"K{number}"
        for path, test in named:
            text = (ROOT / path).read_text()
            assert re.search(rf"^(async )?def {test}\(", text, re.MULTILINE), f"{path}::{test}"
