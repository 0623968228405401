"""Nobody writes lines into the log, or into the metrics, but trimtab."""

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.control.log_lines import LogLines
from trimtab.control.logs import LOGGERS, MAX_TEXT, printable, set_up_logs
from trimtab.telemetry import Counters, Metric, prometheus_text

ANY = st.text(max_size=2 * MAX_TEXT) | st.text(st.sampled_from('\n\r\x1b[\u2028\x00\x85a\\"'))
LONGEST_ESCAPE = len(r"\U0001f600")


@given(ANY, st.booleans())
def test_what_strangers_send_is_printable_and_short(text, keep_tail):
    shown = printable(text, keep_tail=keep_tail)
    assert shown.isprintable()
    assert len(shown) <= MAX_TEXT * LONGEST_ESCAPE


def logged(log_format, text):
    """What one message becomes."""
    written = []
    lines = LogLines(written.append)
    set_up_logs("info", log_format, lines)
    try:
        logging.getLogger("trimtab.control").warning("told: %s", text)
    finally:
        for name in LOGGERS:
            logger = logging.getLogger(name)
            logger.handlers[:] = []
            logger.propagate = True
            logger.setLevel(logging.NOTSET)
        lines.close(5.0)
    return "".join(written)


@given(ANY)
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_one_message_is_one_line_of_the_log(log_format, text):
    line = logged(log_format, text)
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    if log_format == "json":
        assert json.loads(line)["message"] == f"told: {text}"


@given(ANY)
def test_one_sample_is_one_line_of_the_metrics(text):
    counters = Counters([Metric("m", "counter", "A metric.", ("label",))])
    counters.add("m", text)
    lines = prometheus_text(counters).split("\n")
    assert sum(line.startswith("m{") for line in lines) == 1
    assert all(line.startswith(("#", "m{")) or not line for line in lines)
