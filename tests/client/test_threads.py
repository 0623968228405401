"""What only the door for threads promises."""

import threading

import grpc
import grpc.experimental
import pytest

import trimtab
from doors.told import spec
from harness.waiting import Deadline, eventually
from trimtab.client.grpc_sync import BalancedChannel, missing_hook
from trimtab.client.sync_cluster import SyncLink, ask_by_call
from trimtab.model import Endpoint, Snapshot


@pytest.fixture
def ask(echo):
    return echo[0].Request


@pytest.fixture
def stub_of(echo):
    return echo[1].EchoStub


def test_this_grpcio_has_the_hook():
    assert missing_hook() == ""


def test_endpoints_cost_no_thread_each(servers):
    made = servers.open(*(f"s{i}" for i in range(8)))
    before = set(threading.enumerate())
    with trimtab.insecure_channel("orders", endpoints=[s.target for s in made]) as channel:
        eventually(
            lambda: all(n.connected for n in channel.trimtab.nodes.values()),
            within=20,
            what="all are connected",
        )
        assert len(set(threading.enumerate()) - before) == 1


def test_a_closed_channel_leaves_no_thread(servers):
    server = servers.open("a")
    before = threading.active_count()
    trimtab.insecure_channel("orders", endpoints=[server.target]).close()
    eventually(lambda: threading.active_count() <= before, within=20, what="its thread ended")


@pytest.mark.parametrize("end", ["cancel", "drop", "read", "half"])
def test_single_threaded_streams_are_counted_to_their_end(servers, ask, stub_of, end):
    option = (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1)
    with trimtab.insecure_channel(
        "orders", [option], endpoints=[servers.open("a").target]
    ) as channel:
        grpc.channel_ready_future(channel).result(5)
        call = stub_of(channel).Count(ask(replies=3))
        assert channel.trimtab.in_flight == 1
        match end:
            case "cancel":
                assert call.cancel()
            case "drop":
                del call
            case "read":
                assert len(list(call)) == 3
            case "half":
                next(call)
                del call
        if end in {"cancel", "read"}:
            assert channel.trimtab.in_flight == 0
        # A finaliser must not disturb what it comes in between: it has the end counted a moment later.
        eventually(lambda: channel.trimtab.in_flight == 0, within=20, what="it was counted")


def test_a_call_that_must_wait_does_not_block_whoever_begins_it(servers, ask, stub_of):
    channel = BalancedChannel(spec(None, {}))
    stub = stub_of(channel)
    begun = Deadline(5)  # well before their own time is over
    future = stub.Say.future(ask(text="x"), timeout=8)
    stream = stub.Count(ask(text="y", replies=2), timeout=8)
    assert not begun.passed
    heard = threading.Event()
    future.add_done_callback(lambda _call: heard.set())
    assert not future.done()
    assert future.running()
    with pytest.raises(grpc.FutureTimeoutError):
        future.result(timeout=0.05)
    server = servers.open("a")
    channel._cluster.updated(Snapshot("orders", (Endpoint("127.0.0.1", server.port),)))
    assert future.result(timeout=5).text == "x"
    assert heard.wait(5)
    assert [r.text for r in stream] == ["y", "y"]
    assert (future.code(), stream.code()) == (grpc.StatusCode.OK, grpc.StatusCode.OK)
    channel.close()


def test_a_request_that_cannot_be_serialized_fails_a_waiting_call(servers, stub_of):
    channel = BalancedChannel(spec(None, {}))
    future = stub_of(channel).Say.future("not a message", timeout=8)
    server = servers.open("a")
    channel._cluster.updated(Snapshot("orders", (Endpoint("127.0.0.1", server.port),)))
    assert future.exception(timeout=5).code() is grpc.StatusCode.INTERNAL
    assert channel.trimtab.in_flight == 0
    channel.close()


def test_a_waiting_call_that_is_dropped_never_leaves(servers, ask, stub_of):
    channel = BalancedChannel(spec(None, {}))
    stub = stub_of(channel)
    future = stub.Say.future(ask())
    del future
    server = servers.open("a")
    channel._cluster.updated(Snapshot("orders", (Endpoint("127.0.0.1", server.port),)))
    stub.Say(ask(), timeout=5)
    assert server.received == 1
    channel.close()


def test_subscribers_hear_the_state_of_the_whole(servers):
    seen = []
    first = servers.open("a")
    channel = trimtab.insecure_channel("orders", endpoints=[first.target, "127.0.0.1:1"])
    channel.subscribe(seen.append)
    eventually(lambda: seen and seen[-1] is grpc.ChannelConnectivity.READY, within=20, what="READY")
    first.stop()
    eventually(
        lambda: seen[-1] is grpc.ChannelConnectivity.TRANSIENT_FAILURE,
        within=20,
        what="its failure",
    )
    channel.unsubscribe(seen.append)
    channel.close()


def test_closing_ends_a_blocked_caller(ask, stub_of):
    channel = BalancedChannel(spec(None, {}))
    found = []

    def call():
        try:
            stub_of(channel).Say(ask())
        except grpc.RpcError as error:
            found.append(error.code())

    caller = threading.Thread(target=call)
    caller.start()
    eventually(lambda: channel._cluster._changed._waiting, within=10, what="it is blocked")
    channel.close()
    caller.join(10)
    assert found == [grpc.StatusCode.CANCELLED]


class Looked(SyncLink):
    """One that tells when it is looked whether it is closed, or for its channel."""

    looked = asked = staticmethod(lambda: None)

    @property
    def closed(self):
        self.looked()
        return self.is_closed

    @closed.setter
    def closed(self, closed):
        self.is_closed = closed

    @property
    def channel(self):
        self.asked()
        return self.native

    @channel.setter
    def channel(self, channel):
        self.native = channel


def test_endpoints_that_have_left_are_forgotten_while_other_threads_begin_at_new_ones():
    begun, goes_on = threading.Event(), threading.Event()

    def link():
        native = grpc.insecure_channel("127.0.0.1:1")
        return Looked(native, ask_by_call, None)

    def begin():
        begun.set()
        goes_on.wait(5)

    def meanwhile():
        goes_on.set()
        other.join(5)

    with trimtab.insecure_channel("orders", endpoints=["127.0.0.1:1"]) as channel:
        eventually(lambda: channel._cluster.links, within=20, what="the endpoint was taken up")
        calls = channel.unary_unary("/a.B/Say")
        new = link()
        new.asked = begin
        other = threading.Thread(target=calls.native, args=(new,))
        other.start()
        assert begun.wait(5)
        left = [link() for _ in range(11)]
        for each in left:
            calls.native(each)
            each.close()
        left[0].looked = meanwhile
        calls.native(link())
        assert not set(left) & set(calls._natives)
        assert not other.is_alive()
