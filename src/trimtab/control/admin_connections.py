"""How many connections the admin port takes, in all and from one address."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

MOST, MOST_OF_PEER = 200, 50


class Doorkeeper(asyncio.Protocol):
    """Stands in until a connection is known by its peer: lets it in, or ends it.

    One address must not take all of them: the kubelet's probes come over the same port.

    Args:
        server: aiohttp's, which knows its connections.
        refused: called for each that is not let in.
    """

    def __init__(self, server: web.Server, refused: Callable[[], None]) -> None:
        self._server = server
        self._refused = refused

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker: a socket's
        peers = [_peer(each.transport) for each in self._server.connections]
        if len(peers) >= MOST or peers.count(_peer(transport)) >= MOST_OF_PEER:
            self._refused()
            transport.abort()
            return
        handler = self._server()
        transport.set_protocol(handler)
        handler.connection_made(transport)


def _peer(transport: asyncio.BaseTransport | None) -> str:
    """The address of the other side; "" if it has gone."""
    name = None if transport is None else transport.get_extra_info("peername")
    return str(name[0]) if name else ""
