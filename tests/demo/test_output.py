"""What people and programs get from a run."""

import io
import json
import re
import xml.etree.ElementTree as ET

import pytest
from rich.console import Console

from trimtab.demo import page, picture
from trimtab.demo.experiment import Mode
from trimtab.demo.tables import bar, show
from trimtab.svg import side_by_side

KEYS = {
    "max_over_mean",
    "cv",
    "p50_ms",
    "p90_ms",
    "p99_ms",
    "p999_ms",
    "error_rate",
    "requests",
    "requests_per_server",
}


def terminal(report, width=100):
    out = io.StringIO()
    show(report, Console(file=out, width=width))
    return out.getvalue()


def drawn(text):
    """The file's elements; a file that is not well-formed raises."""
    return ET.fromstring(text.removeprefix("<!DOCTYPE html>\n"))


def test_the_json_has_the_documented_keys(report):
    told = json.loads(report.json())
    assert list(told["modes"]) == ["pinned", "round_robin_stale", "round_robin", "trimtab"]
    assert all(set(figures) == KEYS for figures in told["modes"].values())
    assert told["seed"] == 5
    assert told["machine"]["cores"] == 2
    assert told["experiment"]["window_s"] == [1.4, 6.0]
    assert told["modes"]["pinned"]["p999_ms"] is None


def test_the_page_loads_nothing_from_anywhere(report):
    text = page.page(report)
    assert not re.search(r"\b(src|href)\s*=|url\(|@import|<script|<link", text)
    assert set(re.findall(r"https?://[^\"'<\s]+", text)) <= {"http://www.w3.org/2000/svg"}


def test_the_page_is_well_formed_and_has_its_charts(report):
    root = drawn(page.page(report))
    charts = root.findall(".//{http://www.w3.org/2000/svg}svg")
    assert len(charts) == 3
    assert all(chart.get("aria-label") for chart in charts)


@pytest.mark.parametrize("make", [page.page, picture.picture])
def test_both_pictures_follow_light_and_dark(report, make):
    assert "prefers-color-scheme:dark" in make(report)


def test_the_page_says_everything_that_the_terminal_says(report):
    words = " ".join("".join(drawn(page.page(report)).itertext()).split())
    for mode in Mode:
        assert mode.value in words
    for said in ("Were all 8 servers equal", "depends on the draw (seed 5)", "due from 1.4 s to 6"):
        assert said in words
        assert said in " ".join(terminal(report).split())


def test_the_picture_is_a_file_of_its_own(report):
    root = drawn(picture.picture(report))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    text = "".join(root.itertext())
    assert "Before" in text
    assert "After" in text
    assert "seed 5" in text
    assert "530" in text  # the fullest server of the pinned channels


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_tables_fit_a_terminal_and_show_every_server(report, width):
    lines = terminal(report, width).splitlines()
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)
    for n in range(8):
        counts = [report.modes[mode.value].requests_per_server[n] for mode in Mode]
        pattern = (
            rf"\s+{n + 1}( slow| new)?\s" + r"\D*".join(rf"\b{c}\b" for c in ["", *counts])[4:]
        )
        assert any(re.match(pattern, line) for line in lines), pattern


def test_an_overloaded_machine_is_said_everywhere(report, report_of_a_busy_machine):
    assert "MACHINE WAS TOO BUSY" not in terminal(report)
    assert "MACHINE WAS TOO BUSY" in terminal(report_of_a_busy_machine)
    assert "MACHINE WAS TOO BUSY" in page.page(report_of_a_busy_machine)


def test_bars_are_as_long_as_their_values():
    assert bar(100, 100, 8) == "█" * 8
    assert bar(50, 100, 8) == "████    "
    assert bar(0, 100, 8) == " " * 8
    assert bar(1, 64, 8).strip() == "▏"
    assert bar(5, 0, 8) == " " * 8


def test_labels_neither_overlap_nor_leave_the_picture():
    widths = [50.0, 60.0, 60.0]
    begins = side_by_side([10.0, 900.0, 905.0], widths, 910.0)
    ends = [b + w for b, w in zip(begins, widths, strict=True)]
    assert ends[0] <= begins[1]
    assert ends[1] <= begins[2]
    assert ends[2] <= 910.0
