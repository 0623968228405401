"""What is left to the garbage collector, and what it may come in between."""

import contextlib
import gc
import threading
import weakref
from random import Random

import grpc
import pytest

import trimtab
from harness.waiting import eventually
from trimtab import Retry
from trimtab.balancer import Balancer
from trimtab.client.open_channels import Listed, open_channels
from trimtab.client.watching import Fixed

NOT_FOUND = grpc.StatusCode.NOT_FOUND.value[0]
SAY = "/trimtab.test.Echo/Say"


class Request:
    """One that can be watched."""

    def __init__(self, message):
        self.bytes = message.SerializeToString()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("retry", [None, Retry(attempts=2)], ids=["plain", "declared"])
def test_a_call_that_failed_lets_go_of_its_request_at_once(servers, echo, retry):
    server = servers.open("a")
    with trimtab.insecure_channel("orders", endpoints=[server.target], retry=retry) as channel:
        say = channel.unary_unary(SAY, lambda given: given.bytes)
        request = Request(echo[0].Request(fail_with=NOT_FOUND))
        left = weakref.ref(request)
        with contextlib.suppress(grpc.RpcError):
            say(request, timeout=10)
        del request
        assert server.received == 1
        # A thread of gRPC's that told of its end may have it in hand for a moment; the collector is off.
        eventually(lambda: left() is None, within=10, what="nobody keeps it")


class Collects(Balancer):
    """Garbage is collected while its service's name is asked for, as anywhere."""

    __slots__ = ()

    @property
    def cluster(self):
        gc.collect()
        return super().cluster


class Holder:
    """Garbage that only the collector finds."""

    def __init__(self, channel):
        self.channel, self.itself = channel, self


@pytest.mark.usefixtures("uncollected")
def test_a_channel_that_is_collected_while_channels_are_listed_is_listed_no_more():
    balancer = Collects("orders", clock=lambda: 0.0, random=Random(1))
    listed = Listed(balancer, Fixed())
    held = Holder(trimtab.insecure_channel("carts", endpoints=["127.0.0.1:1"]))
    dropped = held.channel.trimtab
    assert dropped in open_channels()
    del held
    lister = threading.Thread(target=open_channels, daemon=True)  # the collector comes there
    lister.start()
    eventually(lambda: not lister.is_alive(), within=10, what="the channels were listed")
    assert dropped not in open_channels()
    listed.close()
