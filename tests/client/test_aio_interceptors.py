"""Which asyncio calls pass through gRPC's interceptors, which costs them more than the rest of the way."""

import json

import pytest
from grpc.aio._interceptor import InterceptedCall

from doors import loop
from harness.waiting import eventually
from trimtab import Endpoint, Snapshot
from trimtab.model import Repeatable, ServicePort

pytestmark = pytest.mark.processes

ECHO = "trimtab.test.Echo"
ONE = json.dumps(
    {"methodConfig": [{"name": [{"service": ECHO, "method": "Say"}],
                       "hedgingPolicy": {"maxAttempts": 2}}]}
)  # fmt: skip


@pytest.fixture(params=loop.DOORS)
def door(request, echo):
    made = loop.DOORS[request.param](echo)
    yield made
    made.close()


def intercepted(channel, method, request):
    """Whether a call of it passes through interceptors."""

    async def call():
        begun = getattr(channel.stub, method)(request)
        if method == "Say":
            await begun
        else:
            assert len([reply async for reply in begun]) == 1
        return isinstance(begun, InterceptedCall)

    return channel.run(call())


def connected(channel):
    eventually(
        lambda: any(node.connected for node in channel.balancer.nodes.values()),
        within=10,
        what="it is connected",
    )


def test_beside_a_declared_method_the_others_pass_through_nothing(door, servers, echo):
    server = servers.open("a")
    channel = door.open([server.target], options=[("grpc.service_config", ONE)])
    connected(channel)
    request = echo[0].Request(text="x", replies=1)
    assert intercepted(channel, "Say", request)
    assert not intercepted(channel, "Count", request)


@pytest.mark.parametrize("method", ["Say", "Count"])
def test_a_method_passes_through_them_while_its_service_declares_it(door, servers, echo, method):
    server = servers.open("a")
    channel = door.open(None)
    request = echo[0].Request(text="x", replies=1)

    def tell(*methods):
        repeatable = Repeatable(methods) if methods else None
        service = ServicePort("orders", "shop", 80, repeatable=repeatable)
        there = (Endpoint("127.0.0.1", server.port),)
        channel.update(Snapshot("orders.shop:80", there, None, service))

    def passes(through):
        eventually(
            lambda: intercepted(channel, method, request) is through,
            within=10,
            what=f"calls {'' if through else 'do not '}pass through interceptors",
        )

    tell()
    connected(channel)
    passes(False)
    tell(f"/{ECHO}/{method}")
    passes(True)
    tell(f"/{ECHO}/Talk")
    passes(False)
    tell("*")
    passes(True)
    tell()
    passes(False)
