"""A call over each door under OpenTelemetry's instrumentation and ``trimtab.otel`` together.

Prints, as JSON, of each door: how many spans are a child of the call's own one, and how many there are.
"""

import asyncio
import json

import grpc_client
import http_client
import httpx
import tracing
from opentelemetry import trace
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorClient, GrpcInstrumentorClient
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import trimtab
import trimtab.aio
import trimtab.otel


def main():
    tracing.OpenTelemetry(
        GrpcInstrumentorClient(),
        GrpcAioInstrumentorClient(),
        HTTPXClientInstrumentor(),
        AioHttpClientInstrumentor(),
    )
    ended = InMemorySpanExporter()
    trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(ended))
    trimtab.otel.install()
    server, loop = grpc_client.Server("traceparent"), asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    given = {"endpoints": [server.target], "retry": trimtab.Retry(attempts=2, on=["UNAVAILABLE"])}
    web, target, _ = http_client.serve("traceparent")
    services = {"orders.shop:8080": [target]}
    blocking = trimtab.insecure_channel("orders", **given)
    channel = trimtab.aio.insecure_channel("orders", **given)
    url = http_client.SERVICE + "/"
    calls = {
        "threads": grpc_client.blocking_calls(blocking)["call"],
        "future": grpc_client.blocking_calls(blocking)["future"],
        "loop": grpc_client.soon(loop, channel)["call"],
        "httpx": lambda: http_client.of_blocking(httpx, services)[1](url),
        "httpx loop": lambda: http_client.of_loop(loop, httpx, services)[1](url),
        "aiohttp": lambda: http_client.of_aiohttp(loop, services)[1](url),
    }
    found = {}
    for door, call in calls.items():
        ended.clear()
        call()
        spans = ended.get_finished_spans()
        (top,) = (span for span in spans if span.parent is None)
        under = [
            span for span in spans if span.parent and span.parent.span_id == top.context.span_id
        ]
        found[door] = [len(under), len(spans)]
    blocking.close()
    loop.run_until_complete(channel.close())
    loop.close()
    server.stop()
    web.shutdown()
    print(json.dumps(found))  # noqa: T201 - its output


if __name__ == "__main__":
    main()
