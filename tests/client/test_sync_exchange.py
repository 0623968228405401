"""A blocking call over gRPC's C core: whatever goes in, what comes out is what gRPC's own function gives."""

import functools
import socket
import threading
from concurrent import futures

import grpc
import pytest
from grpc import _observability

import trimtab
from doors.scripted import message
from harness.interrupting import interrupted
from harness.waiting import eventually
from trimtab.client.sync_exchange import exchange, is_wrapped, missing_in_blocking

METHOD = "/a.B/Say"
CREDENTIALS = grpc.composite_channel_credentials(
    grpc.local_channel_credentials(), grpc.access_token_call_credentials("of the channel")
)


class Server(grpc.GenericRpcHandler):
    """Answers with what it saw of the call, or with the status that the request names."""

    def __init__(self):
        self.held, self.ended = threading.Event(), threading.Event()
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        self._server.add_generic_rpc_handlers((self,))
        port = self._server.add_secure_port("127.0.0.1:0", grpc.local_server_credentials())
        self.target = f"127.0.0.1:{port}"
        self._server.start()

    def service(self, _details):
        return grpc.unary_unary_rpc_method_handler(self._answer)

    def _answer(self, request, context):
        seen = dict(context.invocation_metadata())
        if request == b"hold":
            context.add_callback(self.ended.set)
            self.held.wait(10)
        context.send_initial_metadata((("x-initial", "1"),))
        context.set_trailing_metadata((("x-trailing", "2"), ("x-trailing-bin", b"\xff")))
        if request and request != b"hold":
            context.abort(getattr(grpc.StatusCode, request.decode()), "as asked")
        told = ("x-test", "authorization", "grpc-internal-encoding-request")
        return repr([seen.get(name) for name in told]).encode()

    def stop(self):
        self.held.set()
        self._server.stop(None).wait(10)


@pytest.fixture
def server():
    made = Server()
    yield made
    made.stop()


def fails(_given):
    raise ArithmeticError


def is_nothing(_given):
    return None


def native(channel, serialize=None, deserialize=None):
    return channel.unary_unary(METHOD, serialize, deserialize)


def publicly(native, *given):
    return native.with_call(*given)


def brings(way, call, request=b"", timeout=10, metadata=None, *, wait=None, **more):
    """All that a caller can learn of a call that ends."""
    given = (request, timeout, metadata, more.get("credentials"), wait, more.get("compression"))
    try:
        response, ended = way(call, *given)
    except grpc.RpcError as error:
        # Not the description of the error, which has times and addresses in it.
        return (
            type(error),
            error.code(),
            error.details(),
            error.initial_metadata(),
            error.trailing_metadata(),
        )
    return response, ended.trailing_metadata()


def pairs():
    yield "x-test", "from a generator"


CASES = {
    "an answer": {},
    "metadata": {"metadata": lambda: (("x-test", "1"),)},
    "metadata that can be read once": {"metadata": pairs},
    "metadata that are no texts": {"metadata": lambda: (("x-test", 7),)},
    "compression": {"compression": grpc.Compression.Gzip},
    "no waiting": {"wait": False},
    "waiting": {"wait": True},
    "no deadline": {"timeout": None},
    "a deadline that has passed": {"timeout": -1},
    "credentials of the call": {"credentials": grpc.access_token_call_credentials("of the call")},
    "an error": {"request": b"NOT_FOUND"},
    "a failure": {"request": b"UNAVAILABLE"},
    "a deadline that passes": {"request": b"hold", "timeout": 0.2},
    "a request that is None": {"request": None},
    "a request that can't be serialized": {"serialize": fails},
    "a request that serializes to nothing": {"serialize": is_nothing},
    "a response that can't be read": {"deserialize": fails},
    "a response that is read as nothing": {"deserialize": is_nothing},
    "an error, and nothing can be read": {"request": b"NOT_FOUND", "deserialize": fails},
}


def test_this_grpcio_is_as_expected():
    assert missing_in_blocking() == ""
    assert not is_wrapped()


@pytest.mark.parametrize("case", CASES)
def test_it_brings_what_grpcs_own_brings(server, case):
    given = dict(CASES[case])
    code = (given.pop("serialize", None), given.pop("deserialize", None))
    metadata = given.pop("metadata", lambda: None)
    found = []
    with grpc.secure_channel(server.target, CREDENTIALS) as channel:
        for way in (publicly, exchange):
            try:
                found.append(brings(way, native(channel, *code), metadata=metadata(), **given))
            except (TypeError, ValueError, AttributeError) as error:
                found.append((type(error), str(error)))
    assert found[1] == found[0]


@pytest.mark.parametrize("wait", [None, False, True])
def test_where_nobody_listens_a_call_fails_or_waits_as_it_says(wait):
    with socket.socket() as taken:  # and nobody listens
        taken.bind(("127.0.0.1", 0))
        with grpc.insecure_channel(f"127.0.0.1:{taken.getsockname()[1]}") as channel:
            code = brings(exchange, native(channel), timeout=0.5, wait=wait)[1]
    assert (code is grpc.StatusCode.DEADLINE_EXCEEDED) is bool(wait)


def no_message(sent):
    sent.begin()
    sent.end([("grpc-status", "0"), ("x-trailing", "2")])


def a_message_and_an_error(sent):
    sent.begin()
    sent.h2.send_data(sent.stream, message(b"abc"))
    sent.end([("grpc-status", "5"), ("grpc-message", "not here")])


@pytest.mark.parametrize("deserialize", [None, fails], ids=["readable", "unreadable"])
@pytest.mark.parametrize("respond", [no_message, a_message_and_an_error])
def test_odd_answers_are_what_they_are_to_grpc(scripted, respond, deserialize):
    with grpc.insecure_channel(scripted(respond).target) as channel:
        call = native(channel, None, deserialize)
        assert brings(exchange, call) == brings(publicly, call)


def test_a_response_that_cannot_be_read_is_read_once(server):
    read = []

    def reads(given):
        read.append(given)
        raise ArithmeticError

    with grpc.secure_channel(server.target, CREDENTIALS) as channel:
        assert brings(exchange, native(channel, None, reads))[1] is grpc.StatusCode.INTERNAL
    assert len(read) == 1


def test_a_closed_channel_says_so_as_grpcs_own_does(server):
    channel = grpc.secure_channel(server.target, CREDENTIALS)
    call = native(channel)
    channel.close()
    for way in (publicly, exchange):
        with pytest.raises(ValueError, match="closed channel"):
            brings(way, call)


def test_a_caller_who_is_interrupted_leaves_nothing_in_flight_and_nothing_at_the_server(server):
    def left():
        eventually(lambda: channel.trimtab.in_flight, within=20, what="the call has left")

    with trimtab.secure_channel("orders", CREDENTIALS, endpoints=[server.target]) as channel:
        grpc.channel_ready_future(channel).result(10)
        with interrupted(left), pytest.raises(KeyboardInterrupt):
            native(channel)(b"hold", timeout=600)
        assert channel.trimtab.in_flight == 0
        assert server.ended.wait(10)


def test_who_wraps_grpcs_functions_hears_of_blocking_calls(server, monkeypatch):
    heard = []

    def wrapping(own):
        @functools.wraps(own)
        def wrapped(calls, request, *given, **named):
            heard.append(request)
            return own(calls, request, *given, **named)

        return wrapped

    with grpc.insecure_channel(server.target) as channel:
        kind = type(native(channel))
    for name in ("__call__", "with_call"):
        monkeypatch.setattr(kind, name, wrapping(getattr(kind, name)))
    assert is_wrapped()
    with trimtab.secure_channel("orders", CREDENTIALS, endpoints=[server.target]) as channel:
        native(channel)(b"", timeout=10, wait_for_ready=True)
    assert b"" in heard


class Plugin(_observability.ObservabilityPlugin):
    """What measures calls within gRPC, as ``grpcio-observability`` does."""

    def __init__(self):
        self.heard = []

    @property
    def observability_enabled(self):
        return False  # of the C core: that takes a tracer in C

    def record_rpc_latency(self, method, target, rpc_latency, status_code):
        self.heard.append((method, target, status_code))


Plugin.__abstractmethods__ = frozenset()  # the rest is for the C core


def test_a_plugin_that_measures_grpcs_calls_hears_of_each(server):
    plugin = Plugin()
    plugin.set_stats(True)
    with grpc.secure_channel(server.target, CREDENTIALS) as channel:
        call = native(channel)
        _observability.set_plugin(plugin)
        try:
            answer = brings(exchange, call)
            assert answer == brings(publicly, call)
            brings(exchange, call, b"NOT_FOUND")
        finally:
            _observability.set_plugin(None)
    ok, lost = grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND
    assert [code for _, _, code in plugin.heard] == [ok, ok, lost]
