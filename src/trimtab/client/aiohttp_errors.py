"""What the errors of aiohttp say of an attempt, and what they say to its caller."""

from __future__ import annotations

from traceback import walk_tb
from typing import Any

import aiohttp
from aiohttp import ClientRequest

from trimtab.balancer import Node
from trimtab.client.http_attempts import Broke
from trimtab.client.http_cluster import HttpCluster

UNREACHED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""Where a body never reached the server, since no connection came about."""

_READ_THE_BODY = {"aiohttp.client_reqrep", "aiohttp.payload", "aiohttp.multipart"}
_WRITES = "aiohttp.http_writer"


class Unavailable(aiohttp.ClientConnectionError):
    """No endpoint of the service can be asked; the text says why."""


def broke(request: ClientRequest, error: Exception, place: tuple[str, int]) -> Broke:
    """How an attempt without a response ended.

    Args:
        request: the attempt's.
        error: aiohttp's.
        place: the endpoint's address and port.
    """
    if request.session.closed or is_of_the_body(error):
        return Broke.LOCAL
    if isinstance(error, aiohttp.ConnectionTimeoutError) and _pool_is_full(request, place):
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


def is_of_the_body(error: BaseException) -> bool:
    """Whether the caller's body raised it, or what it is made of, while aiohttp wrote that.

    aiohttp makes the same of a connection that breaks meanwhile: but that is raised by what it writes with.
    """
    writing = False
    for frame, _ in walk_tb((error.__cause__ or error).__traceback__):
        module = frame.f_globals.get("__name__", "")
        if not writing:
            writing = module == "aiohttp.client_reqrep" and frame.f_code.co_name == "write_bytes"
        elif module not in _READ_THE_BODY:
            return bool(module != _WRITES)
    return writing


def _pool_is_full(request: ClientRequest, place: tuple[str, int]) -> bool:
    # aiohttp has no public count of connections in use; without this one the endpoint is blamed.
    connector = request.session.connector
    if connector is None:
        return False
    if connector.limit and len(getattr(connector, "_acquired", ())) >= connector.limit:
        return True
    most = connector.limit_per_host
    if not most:
        return False
    host, port = place
    key = request.connection_key._replace(host=host, port=port)
    return len(getattr(connector, "_acquired_per_host", {}).get(key, ())) >= most
