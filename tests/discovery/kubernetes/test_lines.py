"""Bytes into lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.discovery.kubernetes.lines import Lines
from trimtab.errors import ProtocolError


@given(st.lists(st.text("aä€😀 {}", min_size=1).filter(str.strip)), st.data())
def test_lines_come_out_whole_however_the_bytes_are_cut(texts, data):
    stream = "".join(f"{text}\n" for text in texts).encode()
    lines, found = Lines(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += lines.feed(stream[:size])
        stream = stream[size:]
    assert [line.decode() for line in found] == texts


def test_a_line_that_has_not_ended_is_not_told():
    lines = Lines()
    assert lines.feed(b'{"type":"ADD') == []
    assert lines.feed(b'ED"}\n{') == [b'{"type":"ADDED"}']


def test_empty_lines_are_passed_over():
    assert Lines().feed(b"\n\r\n a\n\n") == [b" a"]


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory():
    lines = Lines(limit=10)
    lines.feed(b"12345")
    with pytest.raises(ProtocolError, match="more than 10 bytes"):
        lines.feed(b"678901")


def test_many_long_lines_are_not_a_line_that_is_too_long():
    lines = Lines(limit=10)
    assert lines.feed(b"1234567\n1234567\n123") == [b"1234567", b"1234567"]
    assert lines.feed(b"4567\n") == [b"1234567"]
