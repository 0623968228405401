"""A callback of a blocking stub's call may block and call again: it holds up nobody but itself."""

import threading

import grpc
import pytest

import trimtab
from trimtab import Retry
from trimtab.testing import ControlPlane

pytestmark = pytest.mark.processes

RETRY = Retry(attempts=2, on=["DEADLINE_EXCEEDED"], attempt_timeout_s=0.2, backoff_s=1.0)


@pytest.mark.parametrize("retry", [None, RETRY], ids=["waiting", "pausing"])
def test_a_callback_that_waits_for_an_endpoint_over_its_own_channel_gets_it(servers, echo, retry):
    server = servers.open("a")
    answers = []
    answered = threading.Event()
    with ControlPlane() as control_plane:
        control_plane.set("orders.shop:grpc", ["127.0.0.1:1"])
        with trimtab.insecure_channel(
            "xds:///orders.shop:grpc", bootstrap=control_plane.bootstrap(), retry=retry
        ) as channel:
            say = echo[1].EchoStub(channel).Say
            begun = threading.Event()

            def again(ended):
                begun.set()
                assert ended.code() is grpc.StatusCode.DEADLINE_EXCEEDED
                request = echo[0].Request(text="again")
                answers.append(say(request, timeout=30, wait_for_ready=True).server)
                answered.set()

            first = say.future(echo[0].Request(text="x"), timeout=0.5, wait_for_ready=True)
            first.add_done_callback(again)
            assert begun.wait(30)
            control_plane.set("orders.shop:grpc", [server.target])
            request = echo[0].Request(text="x")
            assert say(request, timeout=30, wait_for_ready=True).server == "a"
            assert answered.wait(30)
    assert answers == ["a"]
