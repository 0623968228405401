"""A process that may have no more threads for a moment: what wanted one gets it later."""

import threading

import pytest

import trimtab
from harness.waiting import eventually
from trimtab.client.ads_stream import AdsStream
from trimtab.client.alarms import Alarms
from trimtab.client.bootstrap import Bootstrap
from trimtab.testing import ControlPlane, FakeClock

pytestmark = pytest.mark.processes


@pytest.fixture
def refuse(monkeypatch):
    """Have the next thread of this name not start, as with a limit of processes; returns who was refused."""

    def begin(name):
        refused = []
        start = threading.Thread.start

        def start_or_refuse(thread):
            if thread.name.startswith(name) and not refused:
                refused.append(thread)
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", start_or_refuse)
        return refused

    return begin


def test_a_stream_to_the_control_plane_is_opened_later(refuse, servers, echo):
    server = servers.open("a")
    refused = refuse("trimtab-ads")
    with ControlPlane() as control_plane:
        control_plane.set("orders.shop:grpc", [server.target])
        with trimtab.insecure_channel(
            "xds:///orders.shop:grpc", bootstrap=control_plane.bootstrap()
        ) as channel:
            asked = echo[1].EchoStub(channel).Say
            reply = asked(echo[0].Request(text="x"), timeout=30, wait_for_ready=True)
    assert refused
    assert reply.server == "a"


def test_a_stream_that_found_no_thread_leaves_none_behind(refuse):
    (server,) = Bootstrap.of("127.0.0.1:1", node_id="x").servers
    before = set(threading.enumerate())
    refused = refuse("trimtab-ads")
    with pytest.raises(RuntimeError, match="thread"):
        AdsStream(server, 10.0, lambda _response: None, lambda _error: None)
    assert refused
    eventually(
        lambda: set(threading.enumerate()) <= before, within=20, what="its threads have ended"
    )


def test_an_alarm_goes_off_with_the_next_one(refuse):
    alarms = Alarms(FakeClock())
    gone_off = []
    refuse("trimtab-alarms")
    with pytest.raises(RuntimeError, match="thread"):
        alarms.at(0.0, lambda: gone_off.append(1))
    alarms.at(0.0, lambda: gone_off.append(2))
    eventually(lambda: gone_off == [1, 2], within=20, what="both have gone off")


def test_a_call_goes_on_where_its_probes_find_no_thread(refuse, servers, echo):
    one, two = servers.open("a", "b")
    refused = refuse("trimtab-probes")
    with trimtab.insecure_channel(
        "orders", endpoints=[one.target, two.target], policy="prequal"
    ) as channel:
        asked = echo[1].EchoStub(channel).Say

        def is_refused():
            assert asked(echo[0].Request(text="x"), timeout=20).server in {"a", "b"}
            return refused

        eventually(is_refused, within=20, what="a probe was refused its thread")
        eventually(
            lambda: (
                asked(echo[0].Request(text="x"), timeout=20)
                and any(thread.name == "trimtab-probes" for thread in threading.enumerate())
            ),
            within=20,
            what="a later one has it",
        )
        eventually(lambda: not channel.trimtab.in_flight, within=20, what="none is in flight")
