"""Asks the admin pages of a running control plane, for the command line."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlencode, urlsplit

from trimtab.errors import ConfigError, TransportError, TrimtabError

_TIMEOUT_S = 10.0


def ask(server: str, path: str, **query: str) -> Any:
    """The JSON behind ``path``.

    Args:
        server: ``HOST:PORT`` or ``http://HOST:PORT`` of the admin pages.
        path: such as ``/api/v1/clusters``.
        query: the query's parameters.

    Raises:
        ConfigError: ``server`` isn't an address.
        TransportError: nothing answers there; the text says what to do.
        TrimtabError: the control plane refused, in its words.
    """
    host, port = _address(server)
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", f"{path}?{urlencode(query)}" if query else path)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise TransportError(
            f"no answer from the admin pages at {host}:{port}: {error or type(error).__name__}. "
            "Is `trimtab serve` running there? Name its --admin address with --server or "
            "TRIMTAB_ADMIN; in Kubernetes: kubectl port-forward deploy/trimtab 18001",
            endpoint=f"{host}:{port}",
        ) from error
    finally:
        connection.close()
    try:
        answer = json.loads(body)
    except ValueError:
        raise TrimtabError(
            f"{host}:{port}{path} answered {response.status} without JSON: that is not trimtab's "
            "admin port; it is the one after `admin on` in the line that `trimtab serve` prints"
        ) from None
    if response.status != http.client.OK:
        raise TrimtabError(str(answer.get("error", answer)))
    return answer


def _address(server: str) -> tuple[str, int]:
    try:
        parts = urlsplit(server if "//" in server else f"//{server}")
        if parts.scheme in ("", "http") and parts.hostname and parts.port:
            return parts.hostname, parts.port
    except ValueError:
        pass
    raise ConfigError(f"--server {server!r}: is not HOST:PORT; for example 127.0.0.1:18001")
