"""Connections that a cancelled request leaves in httpx's pool, where they take up its places for ever.

httpcore 1 gives a request its connection before the request goes on. Cancelled just then, or with the connection
just made, it leaves one that is neither idle nor closed, and no other request is given it. Each lost hedge and
each caller who gives up may cost one place so. httpx2's pool looks for them itself.
"""

from __future__ import annotations

from typing import Any

from trimtab.client.http_discard import let_go_soon


async def free_slots(transport: Any) -> None:
    """Take such connections out of the pool of one of httpx's transports, and let who waits have the places.

    Does nothing where the pool is built otherwise: there is no public way to see it. What closing them raises is
    not the request's end, and is logged.
    """
    pool = getattr(transport, "_pool", None)
    connections = getattr(pool, "_connections", None)
    requests = getattr(pool, "_requests", None)
    if not isinstance(connections, list) or not isinstance(requests, list):
        return
    wanted = {id(request.connection) for request in requests}
    left = [c for c in connections if id(c) not in wanted and _is_nobodys(c)]
    if not left:
        return
    for connection in left:  # all, before another request that was cancelled may look
        connections.remove(connection)
    assign = getattr(pool, "_assign_requests_to_connections", None)
    if assign is not None and requests:
        left += assign()
    for connection in left:
        await let_go_soon(connection, _close)


async def _close(connection: Any) -> None:
    await connection.aclose()


def _is_nobodys(connection: Any) -> bool:
    return not (connection.is_idle() or connection.is_closed() or connection.is_available())
