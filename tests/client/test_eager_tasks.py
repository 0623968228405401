"""A program whose event loop begins tasks at once (``asyncio.eager_task_factory``, from Python 3.12 on)."""

import asyncio

import grpc
import grpc.aio
import pytest

import trimtab
import trimtab.aio

# What a task does before it first waits then happens before who makes it goes on. Where there is none, nothing can differ.
FACTORIES = [None, *filter(None, [getattr(asyncio, "eager_task_factory", None)])]
SAFE = trimtab.Retry(on=["UNAVAILABLE"])
HEDGED = trimtab.Retry(on=["UNAVAILABLE"], hedge_after_s=0.05)

pytestmark = pytest.mark.processes


async def three():
    for _ in range(3):
        yield b"x"


async def count(requests, _context):
    return b"%d" % len([each async for each in requests])


async def count_all(requests, _context):
    yield b"%d" % len([each async for each in requests])


async def say(_request, _context):
    return b"1"


async def say_all(_request, _context):
    yield b"1"


HANDLERS = {
    "UU": grpc.unary_unary_rpc_method_handler(say),
    "US": grpc.unary_stream_rpc_method_handler(say_all),
    "SU": grpc.stream_unary_rpc_method_handler(count),
    "SS": grpc.stream_stream_rpc_method_handler(count_all),
}


async def answers(retry):
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a", HANDLERS),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with trimtab.aio.insecure_channel(
        "a", endpoints=[f"127.0.0.1:{port}"], retry=retry
    ) as channel:
        how = {"timeout": 20, "wait_for_ready": True}
        found = [
            await channel.unary_unary("/a/UU")(b"", **how),
            *[each async for each in channel.unary_stream("/a/US")(b"", **how)],
            await channel.stream_unary("/a/SU")(three(), **how),
            *[each async for each in channel.stream_stream("/a/SS")(three(), **how)],
        ]
    await server.stop(0)
    return found


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("retry", [None, SAFE, HEDGED], ids=["undeclared", "declared", "hedged"])
def test_all_kinds_of_calls_are_answered(factory, retry):
    async def run():
        asyncio.get_running_loop().set_task_factory(factory)
        return await answers(retry)

    assert asyncio.run(run()) == [b"1", b"1", b"3", b"3"]
