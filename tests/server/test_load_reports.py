"""The interceptors, on real servers: every arity, every end, both doors."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import grpc
import grpc.aio
import pytest

from harness.waiting import eventually
from trimtab.load_codec import HEADER, decode
from trimtab.server import LoadReports, ServerLoad, aio, record_cost

OWN = ("x-own", "kept")
SHAPES = ["unary_unary", "unary_stream", "stream_unary", "stream_stream"]
ENDS = {
    b"fine": grpc.StatusCode.OK,
    b"code": grpc.StatusCode.NOT_FOUND,
    b"abort": grpc.StatusCode.FAILED_PRECONDITION,
    b"raise": grpc.StatusCode.UNKNOWN,
}


def end_in_thread(what, context):
    context.set_trailing_metadata((OWN,))
    record_cost("rows", 3)
    if what == b"code":
        context.set_code(grpc.StatusCode.NOT_FOUND)
    if what == b"abort":
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no")
    if what == b"raise":
        raise LookupError("on purpose")
    return what


async def end_on_loop(what, context):
    context.set_trailing_metadata((OWN,))
    record_cost("rows", 3)
    if what == b"code":
        context.set_code(grpc.StatusCode.NOT_FOUND)
    if what == b"abort":
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no")
    if what == b"abort with trailers":
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no", (("x-own", "last"),))
    if what == b"raise":
        raise LookupError("on purpose")
    if what == b"hold":
        await asyncio.Event().wait()
    return what


def unary_thread(request, context):
    return end_in_thread(request, context)


def stream_thread(request, context):
    # Not two messages: gRPC itself fails when a thread on the loop aborts while one is written.
    yield end_in_thread(request, context)


def gather_thread(requests, context):
    return end_in_thread(b"".join(requests), context)


def talk_thread(requests, context):
    for request in requests:
        yield end_in_thread(request, context)


async def unary_loop(request, context):
    return await end_on_loop(request, context)


async def stream_loop(request, context):
    yield b"first"
    yield await end_on_loop(request, context)


async def gather_loop(requests, context):
    return await end_on_loop(b"".join([r async for r in requests]), context)


async def talk_loop(requests, context):
    async for request in requests:
        await context.write(await end_on_loop(request, context))


THREADS = dict(zip(SHAPES, (unary_thread, stream_thread, gather_thread, talk_thread), strict=True))
LOOP = dict(zip(SHAPES, (unary_loop, stream_loop, gather_loop, talk_loop), strict=True))


def service(functions):
    handlers = {
        shape: getattr(grpc, f"{shape}_rpc_method_handler")(function)
        for shape, function in functions.items()
    }
    return grpc.method_handlers_generic_handler("Test", handlers)


class Side:
    """One server and a channel to it."""

    def __init__(self, address, load):
        self.load = load
        self.channel = grpc.insecure_channel(address)

    def call(self, shape, what):
        """Returns the status and the trailing metadata."""
        stub = getattr(self.channel, shape)(f"/Test/{shape}")
        request = iter([what]) if shape.startswith("stream") else what
        if shape.endswith("stream"):
            call = stub(request, timeout=10)
            with suppress(grpc.RpcError):
                list(call)
        else:
            call = stub.future(request, timeout=10)
            call.exception()
        return call.code(), call.trailing_metadata()


@pytest.fixture(params=["threads", "loop", "threads on the loop"])
async def side(request):
    load = ServerLoad(utilization=lambda: 0.25)
    if request.param == "threads":
        server = grpc.server(ThreadPoolExecutor(4), interceptors=[LoadReports(load, costs=True)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.add_generic_rpc_handlers((service(THREADS),))
        server.start()
    else:
        server = grpc.aio.server(
            ThreadPoolExecutor(4), interceptors=[aio.LoadReports(load, costs=True)]
        )
        port = server.add_insecure_port("127.0.0.1:0")
        server.add_generic_rpc_handlers((service(LOOP if request.param == "loop" else THREADS),))
        await server.start()
    made = Side(f"127.0.0.1:{port}", load)
    yield made
    made.channel.close()
    stopped = server.stop(None)
    if request.param == "threads":
        stopped.wait(10)
    else:
        await stopped


@pytest.mark.parametrize("what", ENDS)
@pytest.mark.parametrize("shape", SHAPES)
async def test_each_end_of_each_kind_of_call_reports_beside_the_handler_s_own(side, shape, what):
    code, trailing = await asyncio.to_thread(side.call, shape, what)
    assert code == ENDS[what]
    metadata = dict(trailing)
    assert metadata["x-own"] == "kept"
    report = decode(metadata[HEADER])
    assert report.in_flight == 0
    assert report.application_utilization == 0.25
    await asyncio.to_thread(
        eventually, lambda: side.load.in_flight == 0, within=20, what="nothing in flight"
    )


async def test_a_latency_is_said_after_calls_that_have_one(side):
    for _ in range(3):
        _, trailing = await asyncio.to_thread(side.call, "unary_unary", b"fine")
    assert 0 < decode(dict(trailing)[HEADER]).latency < 5


async def test_failures_and_streams_are_no_samples_of_latency(side):
    for shape, what in (("unary_unary", b"raise"), ("unary_stream", b"fine")):
        _, trailing = await asyncio.to_thread(side.call, shape, what)
        assert decode(dict(trailing)[HEADER]).latency is None


@pytest.fixture
async def on_loop():
    reports = aio.LoadReports()
    server = grpc.aio.server(interceptors=[reports])
    port = server.add_insecure_port("127.0.0.1:0")
    server.add_generic_rpc_handlers((service(LOOP),))
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield reports.load, channel
    await server.stop(None)


async def test_an_abort_s_trailers_stay_beside_the_report(on_loop):
    _, channel = on_loop
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await channel.unary_unary("/Test/unary_unary")(b"abort with trailers")
    trailing = dict(ended.value.trailing_metadata())
    assert trailing["x-own"] == "last"
    assert decode(trailing[HEADER]).in_flight == 0


@pytest.mark.parametrize("shape", ["unary_unary", "unary_stream"])
async def test_a_call_that_its_caller_leaves_is_no_longer_in_flight(on_loop, shape):
    load, channel = on_loop
    held = getattr(channel, shape)(f"/Test/{shape}")(b"hold")
    if shape == "unary_stream":
        assert await held.read() == b"first"
    await asyncio.to_thread(eventually, lambda: load.in_flight == 1, within=20, what="one held")
    held.cancel()
    await asyncio.to_thread(eventually, lambda: load.in_flight == 0, within=20, what="none held")


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_a_stream_of_a_thread_on_the_loop_that_its_caller_leaves_is_no_longer_in_flight(how):
    let_go = threading.Event()

    def held(_request, _context):
        yield b"first"
        let_go.wait(20)

    reports, pool = aio.LoadReports(), ThreadPoolExecutor(3)
    server = grpc.aio.server(pool, interceptors=[reports])
    port = server.add_insecure_port("127.0.0.1:0")
    server.add_generic_rpc_handlers((service({"unary_stream": held}),))
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = channel.unary_stream("/Test/unary_stream")
        for _ in range(3):
            call = stub(b"", timeout=0.5 if how == "deadline" else None)
            assert await call.read() == b"first"
            assert reports.load.in_flight == 1
            if how == "cancel":
                call.cancel()
            await asyncio.to_thread(
                eventually, lambda: reports.load.in_flight == 0, within=20, what="it went"
            )
    let_go.set()
    await asyncio.to_thread(pool.shutdown)  # its threads tell this loop of their ends
    await server.stop(None)
    assert reports.load.totals() == (3, 0)


async def test_what_else_is_in_the_server_is_said(on_loop):
    load, channel = on_loop
    held = channel.unary_unary("/Test/unary_unary")(b"hold")
    await asyncio.to_thread(eventually, lambda: load.in_flight == 1, within=20, what="one held")
    call = channel.unary_unary("/Test/unary_unary")(b"fine")
    await call
    assert decode(dict(await call.trailing_metadata())[HEADER]).in_flight == 1
    held.cancel()


async def test_a_report_of_the_handler_s_own_is_left_alone():
    async def own(_request, context):
        context.set_trailing_metadata((("endpoint-load-metrics-bin", b"own"),))
        return b""

    server = grpc.aio.server(interceptors=[aio.LoadReports()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.add_generic_rpc_handlers((service({"unary_unary": own}),))
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/Test/unary_unary")(b"")
        await call
        assert HEADER not in dict(await call.trailing_metadata())
    await server.stop(None)
