"""Calls over gRPC's own channels and over trimtab's, under real instrumentation of gRPC.

argv: who instruments, whether before or after trimtab is imported, the doors. Prints, as JSON, of each
door, for a native channel and for a trimtab channel: of each kind of call its spans and whether servers saw the trace.
"""

import asyncio
import importlib
import json
import sys
from concurrent import futures

import grpc
import grpc.aio
from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorClient, GrpcInstrumentorClient
from sentry_sdk.integrations.grpc import GRPCIntegration
from tracing import OpenTelemetry, Sentry

WITHIN_S = 20


class ByHand:
    """What a program does itself, and Datadog: the functions are replaced by wrapping ones."""

    header = "by-hand"

    def __init__(self):
        self._seen = seen = []

        def told(details):
            seen.append(
                details.method if isinstance(details.method, str) else details.method.decode()
            )
            metadata = [*(details.metadata or ()), ("by-hand", "yes")]
            return grpc.aio.ClientCallDetails(
                details.method, details.timeout, grpc.aio.Metadata(*metadata), None, None
            )

        class Blocking(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
            def intercept_unary_unary(self, continuation, details, request):
                made = told(details)
                return continuation(details._replace(metadata=tuple(made.metadata)), request)

            intercept_unary_stream = intercept_unary_unary

        class Unary(grpc.aio.UnaryUnaryClientInterceptor):
            async def intercept_unary_unary(self, continuation, details, request):
                return await continuation(told(details), request)

        class Stream(grpc.aio.UnaryStreamClientInterceptor):
            async def intercept_unary_stream(self, continuation, details, request):
                return await continuation(told(details), request)

        def blocking(make):
            return lambda *a, **k: grpc.intercept_channel(make(*a, **k), Blocking())

        def soon(make):
            return lambda *a, interceptors=None, **k: make(
                *a, interceptors=[Unary(), Stream(), *(interceptors or ())], **k
            )

        for name in ("insecure_channel", "secure_channel"):
            setattr(grpc, name, blocking(getattr(grpc, name)))
            setattr(grpc.aio, name, soon(getattr(grpc.aio, name)))

    def during(self, action):
        self._seen.clear()
        action()
        return list(self._seen)


INSTRUMENTATION = {
    "opentelemetry": lambda: OpenTelemetry(GrpcInstrumentorClient(), GrpcAioInstrumentorClient()),
    "sentry": lambda: Sentry(GRPCIntegration()),
    "both": lambda: (Sentry(GRPCIntegration()), INSTRUMENTATION["opentelemetry"]())[1],
    "by hand": ByHand,
}


class Server(grpc.GenericRpcHandler):
    """Notes what it sees of a header; fails the first request that says so."""

    def __init__(self, header):
        self.header = header
        self.seen = []
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        self._server.add_generic_rpc_handlers([self])
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        local = self._server.add_secure_port("127.0.0.1:0", grpc.local_server_credentials())
        self.secure_target = f"127.0.0.1:{local}"
        self._server.start()

    def service(self, call):
        found = [value for key, value in call.invocation_metadata if key == self.header]
        self.seen.append(found[0] if found else None)
        first = len(self.seen) == 1

        def one(request, context):
            if request == b"fail once" and first:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the first one")
            return request

        kinds = {
            "uu": grpc.unary_unary_rpc_method_handler(one),
            "us": grpc.unary_stream_rpc_method_handler(lambda r, _: iter([r, r])),
            "su": grpc.stream_unary_rpc_method_handler(lambda r, _: b"".join(r)),
            "ss": grpc.stream_stream_rpc_method_handler(lambda r, _: iter(list(r))),
        }
        return kinds[call.method.split("/")[-1]]

    def stop(self):
        self._server.stop(0).wait()


def blocking_calls(channel):
    more = {"timeout": WITHIN_S}
    return {
        "call": lambda: channel.unary_unary("/s/uu")(b"x", **more),
        "with_call": lambda: channel.unary_unary("/s/uu").with_call(b"x", **more)[0],
        "future": lambda: channel.unary_unary("/s/uu").future(b"x", **more).result(),
        "unary_stream": lambda: list(channel.unary_stream("/s/us")(b"x", **more)),
        "stream_unary": lambda: channel.stream_unary("/s/su")(iter([b"x"]), **more),
        "stream_stream": lambda: list(channel.stream_stream("/s/ss")(iter([b"x"]), **more)),
        "again": lambda: channel.unary_unary("/s/uu")(b"fail once", **more),
    }


def soon(loop, channel):
    more = {"timeout": WITHIN_S}

    async def one(arity, method, request):
        return await getattr(channel, arity)(method)(request, **more)

    async def all_of(arity, method, request):
        return [reply async for reply in getattr(channel, arity)(method)(request, **more)]

    return {
        name: lambda make=make, given=given: loop.run_until_complete(make(*given))
        for name, make, given in (
            ("call", one, ("unary_unary", "/s/uu", b"x")),
            ("unary_stream", all_of, ("unary_stream", "/s/us", b"x")),
            ("stream_unary", one, ("stream_unary", "/s/su", [b"x"])),
            ("stream_stream", all_of, ("stream_stream", "/s/ss", [b"x"])),
            ("again", one, ("unary_unary", "/s/uu", b"fail once")),
        )
    }


def seen_of(calls, tracing, server, *, again):
    """Of each call: the spans, the trace's headers at servers, and what it brought."""
    found = {}
    for name, call in calls.items():
        if name == "again" and not again:
            continue
        server.seen.clear()
        brought = []
        spans = tracing.during(lambda call=call, brought=brought: brought.append(call()))
        seen = server.seen
        found[name] = {
            "spans": spans,
            "sent": [header is not None for header in seen],
            "traces": len(set(seen)),
            "brought": repr(brought[0]),
        }
    return found


def over_both(door, tracing, server):
    """The same calls over a native channel and over a trimtab channel."""
    import trimtab  # noqa: PLC0415 - when is what is tested
    import trimtab.aio  # noqa: PLC0415
    from trimtab.client import aio_public, grpc_aio  # noqa: PLC0415

    kind, _, secure = door.partition(", ")
    target = server.secure_target if secure else server.target
    more = {"credentials": grpc.local_channel_credentials()} if secure else {}
    name = "secure_channel" if secure else "insecure_channel"
    given = {"endpoints": [target], "retry": trimtab.Retry(attempts=2, on=["UNAVAILABLE"]), **more}
    if kind == "threads":
        with getattr(grpc, name)(target, **more) as channel:
            native = seen_of(blocking_calls(channel), tracing, server, again=False)
        with getattr(trimtab, name)("orders", **given) as channel:
            ours = seen_of(blocking_calls(channel), tracing, server, again=True)
            assert channel.trimtab.cluster == "orders"
        return {"native": native, "ours": ours}
    usual = grpc_aio._make
    if kind == "public loop":
        grpc_aio._make = aio_public.PublicChannel
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    channel = getattr(grpc.aio, name)(target, **more)
    native = seen_of(soon(loop, channel), tracing, server, again=False)
    loop.run_until_complete(channel.close())
    channel = getattr(trimtab.aio, name)("orders", **given)
    ours = seen_of(soon(loop, channel), tracing, server, again=True)
    loop.run_until_complete(channel.close())
    loop.close()
    grpc_aio._make = usual
    return {"native": native, "ours": ours}


def main(who, order, *doors):
    if order == "after":
        importlib.import_module("trimtab.aio")
    tracing = INSTRUMENTATION[who]()
    server = Server(tracing.header)
    print(json.dumps({door: over_both(door, tracing, server) for door in doors}))  # noqa: T201 - its output
    server.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
