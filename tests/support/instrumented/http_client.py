"""Requests with the HTTP libraries' own transports and with trimtab's, under real instrumentation.

argv: who instruments, whether before or after trimtab is imported, the doors. Prints, as JSON, of each door, for a
plain client and for one with trimtab: of each request its spans, the traces that servers saw, and what came back.
"""

import asyncio
import http.server
import importlib
import json
import sys
import threading

import aiohttp
import httpx
import httpx2
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor, HTTPXClientInstrumentor
from sentry_sdk.integrations.aiohttp import AioHttpIntegration
from sentry_sdk.integrations.httpx import HttpxIntegration
from tracing import OpenTelemetry, Sentry

INSTRUMENTATION = {
    "opentelemetry": lambda: OpenTelemetry(
        HTTPXClientInstrumentor(), HTTPX2ClientInstrumentor(), AioHttpClientInstrumentor()
    ),
    "sentry": lambda: Sentry(HttpxIntegration(), AioHttpIntegration()),
    "both": lambda: (
        Sentry(HttpxIntegration(), AioHttpIntegration()), INSTRUMENTATION["opentelemetry"]()
    )[1],
}  # fmt: skip
LIBRARIES = {"httpx": httpx, "httpx2": httpx2}
SERVICE = "http://orders.shop:8080"


def serve(header):
    """A server and what it sees of a header; ``/once`` is refused the first time."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            seen.append(self.headers.get(header))
            refused = self.path == "/once" and len(seen) == 1
            self.send_response(503 if refused else 200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"127.0.0.1:{server.server_address[1]}", seen


def of_blocking(library, endpoints):
    transports = importlib.import_module(f"trimtab.{library.__name__}")
    plain, ours = (
        library.Client(),
        library.Client(transport=transports.Transport(endpoints=endpoints)),
    )
    return lambda url: plain.get(url).text, lambda url: ours.get(url).text


def of_loop(loop, library, endpoints):
    transports = importlib.import_module(f"trimtab.{library.__name__}")

    async def get(client, url):
        return (await client.get(url)).text

    clients = (
        library.AsyncClient(),
        library.AsyncClient(transport=transports.AsyncTransport(endpoints=endpoints)),
    )
    return [lambda url, c=c: loop.run_until_complete(get(c, url)) for c in clients]


def of_aiohttp(loop, endpoints):
    middleware = importlib.import_module("trimtab.aiohttp").Middleware

    async def get(url, middlewares):
        async with (
            aiohttp.ClientSession(middlewares=middlewares) as session,
            session.get(url) as response,
        ):
            return await response.text()

    async def get_balanced(url):
        async with middleware(endpoints=endpoints) as one:
            return await get(url, [one])

    return (
        lambda url: loop.run_until_complete(get(url, [])),
        lambda url: loop.run_until_complete(get_balanced(url)),
    )


def through(door, tracing):
    """The same requests by a plain client and by one with trimtab."""
    server, target, seen = serve(tracing.header)
    endpoints = {"orders.shop:8080": [target]}
    loop = asyncio.new_event_loop()
    name, _, way = door.partition(" ")
    if name == "aiohttp":
        plain, ours = of_aiohttp(loop, endpoints)
    elif way == "loop":
        plain, ours = of_loop(loop, LIBRARIES[name], endpoints)
    else:
        plain, ours = of_blocking(LIBRARIES[name], endpoints)
    found = {}
    for title, get, url in (
        ("plain", plain, f"http://{target}/"),
        ("ours", ours, f"{SERVICE}/"),
        ("others", ours, f"http://{target}/"),
        ("again", ours, f"{SERVICE}/once"),
    ):
        seen.clear()
        brought = []
        spans = tracing.during(lambda get=get, url=url, brought=brought: brought.append(get(url)))
        found[title] = {
            "spans": [span.replace(f"http://{target}", SERVICE) for span in spans],
            "sent": [header is not None for header in seen],
            "traces": len(set(seen)),
            "brought": brought[0],
        }
    loop.close()
    server.shutdown()
    return found


def main(who, order, *doors):
    if order == "after":
        for library in ("httpx", "httpx2", "aiohttp"):
            importlib.import_module(f"trimtab.{library}")
    tracing = INSTRUMENTATION[who]()
    print(json.dumps({door: through(door, tracing) for door in doors}))  # noqa: T201 - its output


if __name__ == "__main__":
    main(*sys.argv[1:])
