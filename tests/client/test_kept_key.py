"""The key of a call is that call's alone."""

import grpc
import pytest

from doors import loop
from trimtab.model import PolicyConfig

pytestmark = pytest.mark.processes

HASHING = PolicyConfig.of("ring_hash")


class CallsAfterwards(grpc.aio.UnaryUnaryClientInterceptor):
    """Makes a call of its own once the caller's has its response."""

    def __init__(self, call):
        self._call = call

    async def intercept_unary_unary(self, continuation, details, request):
        call = await continuation(details, request)
        await call
        await self._call()
        return call


@pytest.mark.parametrize("kind", loop.DOORS)
def test_a_call_that_an_interceptor_makes_next_goes_by_its_own(kind, servers, echo):
    target = servers.open("a").target
    asked = []

    def key(_method, _metadata, request):
        asked.append(request.text)
        return request.text

    door = loop.DOORS[kind](echo)
    try:
        other = door.open([target], policy=HASHING, hash_key=key)

        def call():
            return other.stub.Say(echo[0].Request(text="bob"), timeout=20)

        interceptors = [CallsAfterwards(call)]
        first = door.open([target], policy=HASHING, hash_key=key, interceptors=interceptors)
        first.say(echo[0].Request(text="alice"), timeout=20)
    finally:
        door.close()
    assert asked == ["alice", "bob"]
