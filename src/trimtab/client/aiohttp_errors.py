"""What the errors of aiohttp say of an attempt, and what they say to its caller."""

from __future__ import annotations

from typing import Any

import aiohttp
from aiohttp import ClientRequest

from trimtab.balancer import Node
from trimtab.client.http_attempts import Broke
from trimtab.client.http_cluster import HttpCluster

UNREACHED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""Where a body never reached the server, since no connection came about."""


class Unavailable(aiohttp.ClientConnectionError):
    """No endpoint of the service can be asked; the text says why."""


def broke(request: ClientRequest, error: Exception) -> Broke:
    """How an attempt without a response ended."""
    if isinstance(error, aiohttp.ConnectionTimeoutError) and _pool_is_full(request):
        return Broke.LOCAL  # it waited for a slot and asked nobody
    if isinstance(error, UNREACHED):
        return Broke.UNREACHED
    if isinstance(error, aiohttp.ServerTimeoutError):
        return Broke.TIMEOUT
    if isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError):
        return Broke.LOST
    return Broke.FAULTY if isinstance(error, aiohttp.ClientResponseError) else Broke.LOCAL


def explained(error: Any, cluster: HttpCluster, node: Node) -> Any:
    """An error of aiohttp's, itself, which says of which service and endpoint it is."""
    if isinstance(error, aiohttp.ClientResponseError):
        error.message = cluster.explain(node, error.message)
    elif isinstance(error, OSError) and error.strerror:
        error.strerror = cluster.explain(node, error.strerror)
    elif not error.args or isinstance(error.args[0], str):
        text = cluster.explain(node, error.args[0] if error.args else type(error).__name__)
        error.args = (text, *error.args[1:])
    if cluster.service not in str(error):  # some make their text of other things
        error.add_note(cluster.explain(node, type(error).__name__))
    return error


def _pool_is_full(request: ClientRequest) -> bool:
    connector = request.session.connector
    if connector is None or not connector.limit:
        return False
    # aiohttp has no public count of connections in use; without this one the endpoint is blamed.
    return len(getattr(connector, "_acquired", ())) >= connector.limit
