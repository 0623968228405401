import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.load_codec import decode, encode
from trimtab.load_report import LoadReport


def test_a_report_comes_back_as_it_was_said():
    said = LoadReport(
        cpu_utilization=0.3, application_utilization=0.45, rps=120.0, eps=1.5, in_flight=7,
        latency=0.012,
    )  # fmt: skip
    assert decode(encode(said)) == said
    assert decode(encode(said).encode()) == said


@pytest.mark.parametrize(
    ("text", "in_flight"),
    [
        ("TEXT named_metrics.in_flight=3", 3),
        ("TEXT named_metrics.in_flight:3", 3),
        ("TEXT  named_metrics.in_flight = 3 ,x=1", 3),
        ("TEXT named_metrics.in_flight=1e300", 1_000_000),
    ],
)
def test_what_others_may_write_is_read(text, in_flight):
    assert decode(text).in_flight == in_flight


@pytest.mark.parametrize("value", ["nan", "-1", "inf", "-inf", "", "x", "1;2", "0x10"])
def test_a_bad_value_is_passed_by_and_the_rest_counts(value):
    text = f"TEXT named_metrics.in_flight={value},cpu_utilization=0.5"
    assert decode(text) == LoadReport(cpu_utilization=0.5)


@pytest.mark.parametrize("text", ["", "TEXT", "TEXT ", "BIN abc", "JSON {}", "TEXT x", b"\xff\xfe"])
def test_what_is_no_report_is_none(text):
    assert decode(text) is None
    assert decode(text) is None  # from what is remembered


def test_what_is_remembered_is_bounded():
    for number in range(10_000):
        assert decode(f"TEXT eps={number}") == LoadReport(eps=float(number))
    assert decode("TEXT eps=1," + "x" * 5000) is None


@given(st.one_of(st.text(), st.binary(), st.from_regex(r"TEXT [a-z_.]+[=:][-+.0-9einfa]*")))
def test_no_text_raises_and_no_number_is_out_of_range(text):
    report = decode(text)
    if report is not None:
        for number in (
            report.cpu_utilization,
            report.application_utilization,
            report.rps,
            report.eps,
        ):
            assert math.isfinite(number)
            assert number >= 0.0
        assert report.in_flight is None or 0 <= report.in_flight <= 1_000_000
