"""What is kept of a request that is a stream, over any order of events."""

from contextlib import nullcontext
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.attempt import (
    Budget,
    Course,
    Ended,
    KeepingSerializer,
    Kept,
    Recording,
    Retry,
    Step,
    Throttle,
    Verdict,
)


def recording(limit=1000):
    return Recording(limit, nullcontext())


def sent(one, attempt, source):
    """The next message that an attempt sends, read from ``source`` if need be; None: there is none."""
    found = one.take(attempt)
    if found is Step.READ:
        message = next(source, None)
        if message is None:
            one.end()
        else:
            one.add(message)
        found = one.take(attempt)
    return found.serialized(None) if isinstance(found, Kept) else None


@given(
    st.lists(st.binary(max_size=8), max_size=12),
    st.lists(st.integers(0, 14), max_size=5),
    st.integers(0, 60),
)
def test_each_attempt_sends_all_from_the_first_on_until_more_was_sent_than_is_kept(
    messages, taken, limit
):
    one = recording(limit)
    source = iter(messages)
    most = 0
    for many in taken:
        attempt = one.begin()
        begun = messages[:many]
        assert [sent(one, attempt, source) for _ in begun] == begun
        most = max(most, many)
        fits = sum(map(len, messages[:most])) <= limit
        assert one.rewind() is fits
        assert one.take(attempt) is Step.OVER or not fits
        if not fits:
            break
    else:
        attempt = one.begin()
        assert [sent(one, attempt, source) for _ in messages] == messages
        assert sent(one, attempt, source) is None
        assert one.take(attempt) is Step.END


@pytest.mark.parametrize("reading", [False, True])
def test_no_attempt_begins_without_the_first_messages(reading):
    # The caller cancels in one thread while another begins the next attempt.
    one = recording()
    source = iter([b"a", b"b"])
    first = one.begin()
    assert sent(one, first, source) == b"a"
    if reading:
        assert one.take(first) is Step.READ
    assert one.rewind()
    one.commit()
    if reading:
        one.add(b"b")
    with pytest.raises(RuntimeError, match="no longer kept"):
        one.begin()


def test_a_message_that_is_being_read_is_waited_for_by_the_next_attempt():
    one = recording()
    first = one.begin()
    assert one.take(first) is Step.READ
    assert one.rewind()
    second = one.begin()
    assert one.take(second) is Step.WAIT
    one.add(b"a")
    assert one.take(first) is Step.OVER
    assert one.take(second).serialized(None) == b"a"
    assert one.take(second) is Step.READ


def test_a_message_that_an_ended_attempt_serializes_late_is_not_let_go():
    one = recording(limit=1)
    first = one.begin()
    assert one.take(first) is Step.READ
    one.add(b"more")
    late = one.take(first)
    assert one.rewind()
    assert late.serialized(None) == b"more"  # now more was serialized than is kept
    second = one.begin()
    assert one.take(second).serialized(None) == b"more"
    assert not one.rewind()


def test_once_an_answer_was_taken_what_was_sent_is_let_go_and_the_rest_is_still_sent():
    one = recording()
    first = one.begin()
    source = iter([b"a", b"b", b"c", b"d"])
    assert [sent(one, first, source) for _ in range(3)] == [b"a", b"b", b"c"]
    assert one.rewind()
    second = one.begin()
    assert sent(one, second, source) == b"a"
    one.commit()
    assert not one.repeatable
    assert [sent(one, second, source) for _ in range(4)] == [b"b", b"c", b"d", None]


@pytest.mark.parametrize("how", ["read", "serialized"])
def test_what_cannot_be_read_or_serialized_is_not_tried_again(how):
    one = recording()
    attempt = one.begin()
    assert one.take(attempt) is Step.READ
    if how == "read":
        one.end(ValueError("the caller's"))
        assert one.take(attempt) is Step.END
    else:
        one.add("text")
        kept = one.take(attempt)
        with pytest.raises(ZeroDivisionError):
            KeepingSerializer(lambda _text: 1 / 0)(kept)
    assert not one.rewind()


def test_a_message_is_serialized_once_and_one_that_is_not_kept_as_ever():
    asked = []
    serializer = KeepingSerializer(lambda text: asked.append(text) or text.encode())
    one = recording()
    attempt = one.begin()
    one.take(attempt)
    one.add("a")
    assert serializer(one.take(attempt)) == b"a"
    assert one.rewind()
    assert serializer(one.take(one.begin())) == b"a"
    assert serializer("b") == b"b"
    assert asked == ["a", "b"]
    assert KeepingSerializer(None)(b"c") == b"c"


@pytest.mark.parametrize("unsent", [False, True])
def test_a_request_that_is_not_kept_has_no_other_attempt_and_counts_as_failed(unsent):
    budget = Budget(throttle=Throttle(2.0, 0.1))
    course = Course(Retry(5), budget, Random(1), 0.0)
    assert course.ended(0.0, Ended(14, unsent=unsent, spent=True)) is Verdict.FINAL
    assert not budget.spend()  # gRFC A6: one failure of two tokens, and no more retries
