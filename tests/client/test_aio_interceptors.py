"""Which asyncio calls pass through gRPC's interceptors, which costs them more than the rest of the way."""

import json

import grpc
import pytest
from grpc.aio._interceptor import InterceptedCall

from doors import loop
from harness.waiting import eventually
from trimtab import Endpoint, Snapshot
from trimtab.client.attempts import trail
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
        within=20,
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
            within=20,
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


class Looks(grpc.aio.UnaryUnaryClientInterceptor):
    """Notes whether what it does after a request would be taken for an attempt of it."""

    def __init__(self):
        self.found = []

    async def intercept_unary_unary(self, continuation, client_call_details, request):
        try:
            call = await continuation(client_call_details, request)
            await call
        finally:
            self.found.append(trail.get())
        return call


@pytest.mark.parametrize("policy", ["retryPolicy", "hedgingPolicy"])
def test_what_a_task_does_after_a_request_is_no_attempt_of_it(door, servers, echo, policy):
    pauses = {"initialBackoff": "0.01s", "maxBackoff": "1s", "backoffMultiplier": 2}
    codes = {"retryableStatusCodes": ["NOT_FOUND"], **pauses} if policy == "retryPolicy" else {}
    said = {"name": [{}], policy: {"maxAttempts": 2, **codes}}
    looks = Looks()
    channel = door.open(
        [servers.open("a").target],
        options=[("grpc.service_config", json.dumps({"methodConfig": [said]}))],
        interceptors=[looks],
    )
    connected(channel)
    assert channel.say(echo[0].Request(text="x")).text == "x"
    with pytest.raises(grpc.RpcError):
        channel.say(echo[0].Request(fail_with=5))
    assert looks.found == [None, None]
