"""What a client of h2 and a server of h2 hear of one another through a ``Farewell``."""

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import pytest
from hyperframe.frame import GoAwayFrame
from hypothesis import given
from hypothesis import strategies as st

from trimtab.client.http2_farewell import PREFACE, REFUSED_STREAM, Farewell

REQUEST = [(":method", "POST"), (":authority", "orders"), (":scheme", "http"), (":path", "/")]


class Talk:
    """A client, a server, and between them the ``Farewell`` under test."""

    def __init__(self):
        self.client = h2.connection.H2Connection()
        self.server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.between = Farewell()
        self.client.initiate_connection()
        self.server.initiate_connection()
        self.said()
        self.heard()

    def request(self, *, ended=True):
        stream = self.client.get_next_available_stream_id()
        self.client.send_headers(stream, REQUEST, end_stream=ended)
        return stream

    def said(self):
        """What the server has of the client's words."""
        data = self.between.sent(self.client.data_to_send())
        return self.server.receive_data(data) if data else []

    def heard(self, extra=b"", parts=None):
        """What the client has of the server's words, and of ``extra`` after them."""
        data = self.server.data_to_send() + extra
        events = []
        for part in [data] if parts is None else parts(data):
            events += self.client.receive_data(self.between.received(part))
        return events

    def answer(self, stream):
        self.server.send_headers(stream, [(":status", "200")])
        self.server.send_data(stream, b"yes", end_stream=True)


def goaway(last, error=0):
    return GoAwayFrame(0, last_stream_id=last, error_code=error).serialize()


def ended(events):
    return [e.stream_id for e in events if isinstance(e, h2.events.StreamEnded)]


def refused(events):
    return [
        e.stream_id
        for e in events
        if isinstance(e, h2.events.StreamReset) and e.error_code == REFUSED_STREAM
    ]


def test_answers_after_a_goaway_are_heard_and_then_the_connection_is_over():
    talk = Talk()
    first, second = talk.request(), talk.request()
    talk.said()
    assert talk.heard(goaway(second)) == []
    assert talk.between.left
    talk.answer(first)
    assert ended(talk.heard()) == [first]
    assert not talk.between.over
    talk.answer(second)
    assert ended(talk.heard()) == [second]
    assert talk.between.over


def test_what_is_beyond_the_last_stream_is_refused_and_nothing_else():
    talk = Talk()
    streams = [talk.request() for _ in range(4)]
    talk.said()
    assert refused(talk.heard(goaway(streams[1]))) == streams[2:]


@pytest.mark.parametrize("last", [0, 1, 2**31 - 1])
def test_a_request_that_leaves_too_late_is_not_written_but_refused(last):
    talk = Talk()
    talk.request()
    talk.said()
    talk.heard(goaway(last))
    late = talk.request()
    assert talk.said() == []
    assert refused(talk.client.receive_data(talk.between.waiting())) == [late]


def test_a_second_goaway_refuses_what_the_first_one_left_open():
    talk = Talk()
    streams = [talk.request() for _ in range(3)]
    talk.said()
    assert talk.heard(goaway(2**31 - 1)) == []
    assert refused(talk.heard(goaway(streams[0]))) == streams[1:]


def test_a_body_of_a_refused_request_goes_nowhere_takes_no_window_and_its_end_is_told():
    talk = Talk()
    stays, going = talk.request(), talk.request(ended=False)
    talk.client.send_data(going, b"x" * 10_000)
    talk.said()
    talk.heard(goaway(stays))
    before = talk.client.outbound_flow_control_window
    for _ in range(30):  # several times the window
        talk.client.send_data(going, b"x" * 10_000)
        assert talk.said() == []
        assert refused(talk.client.receive_data(talk.between.waiting())) == []
    assert talk.client.outbound_flow_control_window == before
    talk.client.end_stream(going)
    assert talk.said() == []
    assert refused(talk.client.receive_data(talk.between.waiting())) == [going]


def test_a_body_that_the_server_goes_on_with_is_written_after_the_goaway():
    talk = Talk()
    stays = talk.request(ended=False)
    talk.said()
    talk.heard(goaway(stays))
    talk.client.send_data(stays, b"all", end_stream=True)
    assert ended(talk.said()) == [stays]
    talk.answer(stays)
    assert ended(talk.heard()) == [stays]


def test_a_goaway_for_an_error_is_heard_at_once_after_what_it_refuses():
    talk = Talk()
    first, second = talk.request(), talk.request()
    talk.said()
    events = talk.heard(goaway(first, error=2))
    assert refused(events) == [second]
    assert isinstance(events[-1], h2.events.ConnectionTerminated)


def test_where_nothing_follows_giving_up_tells_of_the_goaway():
    talk = Talk()
    first = talk.request()
    talk.said()
    talk.heard(goaway(first))
    (event,) = talk.client.receive_data(talk.between.given_up())
    assert (type(event), event.last_stream_id) == (h2.events.ConnectionTerminated, first)


@given(st.lists(st.integers(1, 40), min_size=1))
def test_however_the_bytes_are_cut_the_client_hears_the_same(sizes):
    def cut(data):
        parts, n = [], 0
        while data:
            size = sizes[n % len(sizes)]
            parts.append(data[:size])
            data, n = data[size:], n + 1
        return parts

    talk = Talk()
    first, second, third = (talk.request() for _ in range(3))
    talk.said()
    events = talk.heard(goaway(second), cut)
    talk.answer(first)
    talk.answer(second)
    events += talk.heard(parts=cut)
    assert (ended(events), refused(events)) == ([first, second], [third])
    assert talk.between.over


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_no_bytes_break_it(sent, received):
    between = Farewell()
    between.sent(PREFACE + sent)
    between.received(received)
    between.waiting()
