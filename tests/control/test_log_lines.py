"""Nobody waits for a log that nobody reads."""

import threading

import pytest

from trimtab.control.log_lines import LogLines


class Reader:
    """Takes lines when it is let."""

    def __init__(self):
        self.read = threading.Event()
        self.has_one = threading.Event()
        self.lines = []

    def __call__(self, text):
        self.has_one.set()
        assert self.read.wait(10)
        self.lines.append(text)


def test_lines_come_in_order_and_all_before_the_end():
    written = []
    lines = LogLines(written.append)
    for number in range(1000):
        lines.put(f"{number}")
    lines.close(10.0)
    assert written == [f"{number}\n" for number in range(1000)]
    assert lines.dropped == 0


def test_what_finds_too_many_waiting_is_dropped_counted_and_told_once_somebody_reads():
    reader = Reader()
    lines = LogLines(reader, most=3)
    lines.put("first")
    assert reader.has_one.wait(10)
    for number in range(10):
        lines.put(f"{number}")
    assert lines.dropped == 7
    reader.read.set()
    lines.close(10.0)
    dropped = "(7 lines of the log were dropped: nobody read it)\n"
    assert reader.lines == ["first\n", "0\n", "1\n", "2\n", dropped]


def test_the_end_does_not_wait_for_a_reader_that_reads_nothing():
    reader = Reader()
    lines = LogLines(reader)
    lines.put("first")
    assert reader.has_one.wait(10)
    lines.close(0.0)
    assert reader.lines == []
    reader.read.set()


@pytest.mark.parametrize("error", [BrokenPipeError, OSError])
def test_a_reader_that_is_gone_costs_its_lines_and_no_more(error):
    def gone(_text):
        raise error

    lines = LogLines(gone)
    lines.put("one")
    lines.put("two")
    lines.close(10.0)
    assert lines.dropped == 2
