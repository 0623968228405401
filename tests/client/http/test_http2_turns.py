"""What threads that share an HTTP/2 connection may not do between one another's steps."""

import sys
import threading

import h2.config
import pytest

from http2_leaver import Http2Leaver
from http_doors import Httpx2Sync, HttpxSync
from trimtab.client.http2_turns import InTurns, take_turns

SYNC = pytest.mark.parametrize("kind", [HttpxSync, Httpx2Sync], ids=lambda kind: kind.__name__)
HEADERS = [(":method", "GET"), (":authority", "orders"), (":scheme", "http"), (":path", "/")]
LONGEST_S = 20
CALLERS, CALLS = 12, 40
MOMENT_S = 0.1  # a thread that need not wait is through in this time


@pytest.fixture
def state():
    made = InTurns(h2.config.H2Configuration())
    made.initiate_connection()
    made.data_to_send()
    return made


@pytest.fixture
def server(request):
    made = Http2Leaver(getattr(request, "param", 10**6))
    yield made
    made.close()


@pytest.fixture
def restless():
    """Threads change places as often as Python lets them, so that what can go wrong does."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def open_client(kind, server):
    endpoints = {"orders.shop:80": [server.target]}
    transport = kind.transports.Transport(endpoints=endpoints, http1=False, http2=True)
    return kind.library.Client(transport=transport, timeout=LONGEST_S)


class Elsewhere:
    """A call in a thread of its own."""

    def __init__(self, call, *args):
        self.result = None
        self._thread = threading.Thread(target=self._run, args=(call, *args), daemon=True)
        self._thread.start()

    def _run(self, call, *args):
        self.result = call(*args)

    def ends(self, within_s):
        self._thread.join(within_s)
        return not self._thread.is_alive()


def test_a_stream_s_number_is_given_to_nobody_else_before_it_is_used(state):
    assert state.get_next_available_stream_id() == 1
    other = Elsewhere(state.get_next_available_stream_id)
    assert not other.ends(MOMENT_S)
    state.send_headers(1, HEADERS, end_stream=True)
    assert other.ends(LONGEST_S)
    assert other.result == 3


def test_who_asked_for_a_number_and_does_not_use_it_holds_nobody_up_for_longer(state):
    state.get_next_available_stream_id()
    state.end_turn()
    state.end_turn()  # of nobody: nothing happens
    other = Elsewhere(state.get_next_available_stream_id)
    assert other.ends(LONGEST_S)
    assert other.result == 1


def test_room_for_a_body_is_given_to_nobody_else_before_it_is_filled(state):
    for stream in (1, 3):
        state.send_headers(stream, HEADERS)
    room = state.local_flow_control_window(1)
    other = Elsewhere(state.local_flow_control_window, 3)
    assert not other.ends(MOMENT_S)
    state.send_data(1, b"x" * min(room, state.max_outbound_frame_size))
    assert other.ends(LONGEST_S)
    assert other.result < 65_535


def test_where_there_is_no_room_nobody_is_held_up(state):
    for stream in (1, 3):
        state.send_headers(stream, HEADERS)
    while room := state.local_flow_control_window(1):
        state.send_data(1, b"x" * min(room, state.max_outbound_frame_size))
    other = Elsewhere(state.local_flow_control_window, 3)
    assert other.ends(LONGEST_S)
    assert other.result == 0


def test_a_stream_that_other_threads_saw_end_takes_a_window_and_gives_none(state):
    state.send_headers(1, HEADERS, end_stream=True)
    state.reset_stream(1)
    state.data_to_send()
    state.increment_flow_control_window(1000, stream_id=1)
    state.send_headers(3, HEADERS, end_stream=True)  # h2 forgets those that have ended
    state.data_to_send()
    state.increment_flow_control_window(1000, stream_id=1)
    assert state.data_to_send() == b""


@SYNC
def test_a_request_that_breaks_off_in_its_turn_ends_it(kind, server):
    url = "http://orders.shop/"

    def interrupted(event, _details):
        if event == "http2.send_request_headers.started":
            raise KeyboardInterrupt

    with open_client(kind, server) as client:
        with pytest.raises(KeyboardInterrupt):
            client.get(url, extensions={"trace": interrupted})
        other = Elsewhere(client.get, url)
        assert other.ends(LONGEST_S)
        assert other.result.status_code == 200


@SYNC
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("server", [10**6, 20], ids=["stays", "leaves"], indirect=True)
@pytest.mark.usefixtures("restless")
def test_requests_of_many_threads_all_end_well_and_run_once(kind, method, server):
    content = b"x" * 1000 if method == "POST" else None

    def ask(client, caller):
        answers = [
            client.request(method, f"http://orders.shop/{caller}-{n}", content=content)
            for n in range(CALLS)
        ]
        return {answer.status_code for answer in answers}

    with open_client(kind, server) as client:
        callers = [Elsewhere(ask, client, caller) for caller in range(CALLERS)]
        assert all(caller.ends(3 * LONGEST_S) for caller in callers)
    assert [caller.result for caller in callers] == [{200}] * CALLERS
    assert set(server.executions.values()) == {1}
    assert server.executions.total() == CALLERS * CALLS


def test_a_library_that_names_its_connections_otherwise_is_left_as_it_is():
    class Later:
        def handle_request(self, _request):
            return "an answer"

    class Pool:
        def create_connection(self, _origin):
            return Later()

    pool = Pool()
    take_turns(pool)
    assert pool.create_connection(None).handle_request(None) == "an answer"
