"""Admin pages whose length depends on clients and clusters: sent in parts, as they are built.

Between two parts the event loop serves everybody else, and a reader that is slow costs one part.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from http import HTTPMethod
from typing import Any

from aiohttp import web

from trimtab.control.stream import Stream
from trimtab.control.views import client_view, resource_view
from trimtab.discovery.pause import pause
from trimtab.xds.server_session import ResourceStatus

JSON = {"Content-Type": "application/json", "Cache-Control": "no-store"}
_PART = 16 << 10  # characters; they take about a millisecond to build


def with_list(before: dict[str, Any], key: str, items: Iterable[Iterable[str]]) -> Iterator[str]:
    """A JSON object in pieces: the fields ``before``, then a list whose items come in pieces."""
    head = json.dumps(before)[:-1]
    yield f"{head}{', ' if before else ''}{json.dumps(key)}: ["
    for number, item in enumerate(items):
        if number:
            yield ", "
        yield from item
    yield "]}"


def clients(
    streams: Iterable[tuple[Stream, Iterable[ResourceStatus]]], now: float
) -> Iterator[Iterator[str]]:
    """Each stream with these of its resources."""
    for stream, statuses in streams:
        resources = ((json.dumps(resource_view(status, now)),) for status in statuses)
        yield with_list(client_view(stream, now), "resources", resources)


async def send(request: web.Request, pieces: Iterable[str]) -> web.StreamResponse:
    """Answer with these pieces of JSON, put together to parts."""
    response = web.StreamResponse(headers=JSON)
    await response.prepare(request)
    part: list[str] = []
    size = 0
    if request.method != HTTPMethod.HEAD:
        for piece in pieces:
            part.append(piece)
            size += len(piece)
            if size >= _PART:
                await response.write("".join(part).encode())
                part.clear()
                size = 0
                await pause(0)
        await response.write("".join(part).encode())
    await response.write_eof()
    return response
