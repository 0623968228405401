"""What ``make audit`` makes of an advisory service's answers. pip-audit is a stand-in: ours reaches none."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "audit.py"
KNOWN = {"name": "idna", "version": "3.6", "vulns": [{"id": "PYSEC-2024-60"}]}
CLEAN = {"name": "good", "version": "1", "vulns": []}
OURS = {"name": "trimtab", "skip_reason": "distribution marked as editable"}
STAND_IN = """
import os, sys
answers = os.environ["INSTALLED" if "--path" in sys.argv else "CANARY"]
if answers:
    open(sys.argv[sys.argv.index("--output") + 1], "w").write(answers)
"""


@pytest.fixture
def audit(tmp_path):
    """Runs the script with a pip-audit that answers so; None: it can't ask."""
    (tmp_path / "pip_audit").mkdir()
    (tmp_path / "pip_audit" / "__main__.py").write_text(STAND_IN)
    (tmp_path / "pip_audit" / "__init__.py").write_text("")

    def run(canary, installed, *arguments):
        def text(packages):
            return "" if packages is None else json.dumps({"dependencies": packages})

        done = subprocess.run(
            [sys.executable, SCRIPT, "--path", "site-packages", *arguments],
            env=os.environ
            | {"PYTHONPATH": str(tmp_path), "CANARY": text(canary), "INSTALLED": text(installed)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_packages_that_nothing_is_known_against_pass(audit):
    assert audit([KNOWN], [CLEAN, OURS]) == (0, "audit: nothing known against 2 packages\n")


def test_a_vulnerable_package_fails_by_name_even_where_possible(audit):
    bad = {"name": "bad", "version": "2", "vulns": [{"id": "GHSA-1"}, {"id": "CVE-2"}]}
    code, text = audit([KNOWN], [CLEAN, bad], "--where-possible")
    assert (code, text) == (1, "audit: bad 2: GHSA-1, CVE-2\n")


def test_a_package_that_could_not_be_looked_up_fails(audit):
    code, text = audit([KNOWN], [CLEAN, {"name": "odd", "skip_reason": "not found on PyPI"}])
    assert code == 1
    assert "odd: not looked up: not found on PyPI" in text


@pytest.mark.parametrize(
    "canary", [None, [], [{"name": "idna", "skip_reason": "not found"}], [{**KNOWN, "vulns": []}]]
)
def test_a_service_that_knows_nothing_is_not_taken_for_a_clean_bill(audit, canary):
    code, text = audit(canary, [CLEAN])
    assert code == 1
    assert "NOT DONE" in text
    code, text = audit(canary, [CLEAN], "--where-possible")
    assert code == 0
    assert "NOT DONE" in text
    assert "nothing known against" not in text


def test_an_empty_answer_is_not_taken_for_a_clean_bill(audit):
    assert audit([KNOWN], [])[0] == 1
    assert audit([KNOWN], None, "--where-possible")[0] == 1
