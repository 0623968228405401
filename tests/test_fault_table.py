"""The tables of the fault matrix name only tests, chaos rows and benchmarks that there are, and leave no row out."""

import re
from pathlib import Path

import pytest
from chaos.rows import ROWS

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
KUBERNETES, OTHERS = REFERENCE / "kubernetes-faults.md", REFERENCE / "faults.md"
COUNTS = {"K": 23, "C": 19, "N": 12, "B": 21, "X": 14, "D": 11, "T": 5, "R": 9, "U": 7, "Z": 9}
# Without a test or a measurement of each of these there is no release.
FIRST_WAVE = {
    *(f"K{n}" for n in (2, 3, 6, 10, 14, 18)),
    *(f"C{n}" for n in (1, 2, 3, 4, 6, 7, 11, 13)),
    *(f"N{n}" for n in (1, 2, 7, 8, 9)),
    *(f"B{n}" for n in (1, 2, 3, 4, 10, 19, 20)),
    *("X1", "X2", "X9", "D3", "D6", "T1", "R1", "R2", "U2", "Z1"),
}
CHAOS = re.compile(r"chaos rows? ((?:`[\w-]+`(?:, )?)+)")


def rows_of(page):
    """Number and text of each row of the page's tables."""
    return re.findall(r"^\| ([A-Z]\d+) \|(.*)$", page.read_text(), re.MULTILINE)


def named_tests(text):
    return re.findall(r"`([\w/]+\.py)::(\w+)`", text)


def named_chaos_rows(text):
    return [name for names in CHAOS.findall(text) for name in re.findall(r"`([\w-]+)`", names)]


PAGES = pytest.mark.parametrize("page", [KUBERNETES, OTHERS], ids=lambda p: p.name)


@pytest.mark.parametrize("group", COUNTS)
def test_every_row_of_the_faults_is_decided(group):
    found = [number for number, _ in rows_of(KUBERNETES if group == "K" else OTHERS)]

    wanted = [f"{group}{n}" for n in range(1, COUNTS[group] + 1)]
    assert [n for n in dict.fromkeys(found) if n.startswith(group)] == wanted


def test_rows_outside_of_kubernetes_stand_once():
    numbers = [number for number, _ in rows_of(OTHERS)]

    assert len(numbers) == len(set(numbers)) == sum(COUNTS.values()) - COUNTS["K"]


@PAGES
def test_every_test_that_is_named_is_there(page):
    named = named_tests(page.read_text())
    assert named
    for path, test in named:
        text = (ROOT / path).read_text()
        defined = re.search(rf"^(?:(?:async )?def {test}\(|{test} = )", text, re.MULTILINE)
        assert defined, f"{path}::{test}"


def test_every_row_of_the_chaos_suite_that_is_named_is_there():
    named = named_chaos_rows(OTHERS.read_text())

    assert named
    assert set(named) <= {row.name for row in ROWS}


@PAGES
def test_every_benchmark_that_is_named_is_there(page):
    named = re.findall(r"`(bench/\w+\.py)`", page.read_text())

    assert named
    assert all((ROOT / path).is_file() for path in named)


@PAGES
def test_a_row_names_what_shows_it_or_says_that_nothing_does(page):
    for number, row in rows_of(page):
        shown = row.rstrip("| ").rpartition(" | ")[2]
        if named_tests(shown) or named_chaos_rows(shown):
            continue
        assert page == OTHERS, number
        assert number not in FIRST_WAVE, number
        assert shown == "not tested", number
