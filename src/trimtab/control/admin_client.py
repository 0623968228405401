"""Asks the admin pages of a running control plane, for the command line."""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from trimtab.errors import ConfigError, TransportError, TrimtabError
from trimtab.tls_trust import trusting

_TIMEOUT_S = 10.0
_REFUSALS = frozenset({http.client.UNAUTHORIZED, http.client.FORBIDDEN})
_NOT_ADMIN = (
    "that is not trimtab's admin port; it is the one after `admin on` in the line that `trimtab serve` "
    "prints (https://HOST:PORT if that line says https)"
)


@dataclass(frozen=True, slots=True)
class AdminServer:
    """Where the admin pages are, and how to be let in.

    Attributes:
        address: ``HOST:PORT``, ``http://HOST:PORT`` or ``https://HOST:PORT``.
        token_file: the token that is sent; None sends none.
        ca: PEM of the authorities that vouch for the server; None: the system's.
    """

    address: str
    token_file: Path | None = None
    ca: Path | None = None

    def connection(self) -> http.client.HTTPConnection:
        """A connection, not open yet.

        Raises:
            ConfigError: the address is none, a file can't be read, or a token would be sent in
                plaintext.
        """
        host, port, has_tls = _parse(self.address)
        if has_tls:
            try:
                context = trusting(cafile=self.ca)
            except OSError as error:  # ssl.SSLError is one
                raise ConfigError(f"--ca {self.ca}: {error}; give a PEM file") from None
            return http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=context)
        for flag, value in (("--token-file", self.token_file), ("--ca", self.ca)):
            if value is not None:
                raise ConfigError(
                    f"{flag} {value}: is for https only; --server https://{host}:{port}"
                )
        return http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)

    def headers(self) -> dict[str, str]:
        """What lets the request in.

        Raises:
            ConfigError: the token can't be read.
        """
        if self.token_file is None:
            return {}
        try:
            token = self.token_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"--token-file {self.token_file}: cannot be read: {why}; name a file with a token"
            ) from None
        if not token.isascii() or not token.isprintable() or not token:
            raise ConfigError(f"--token-file {self.token_file}: holds no token: one line of text")
        return {"Authorization": f"Bearer {token}"}


def ask(server: AdminServer, path: str, **query: str) -> Any:
    """The JSON behind ``path``.

    Args:
        server: whom to ask.
        path: such as ``/api/v1/clusters``.
        query: the query's parameters.

    Raises:
        ConfigError: ``server`` can't be used as it is.
        TransportError: nothing answers there; the text says what to do.
        TrimtabError: the control plane refused, in its words.
    """
    connection = server.connection()
    there = f"{connection.host}:{connection.port}"
    try:
        connection.request(
            "GET", f"{path}?{urlencode(query)}" if query else path, headers=server.headers()
        )
        response = connection.getresponse()
        body = response.read()
    except ssl.SSLCertVerificationError as error:
        raise TransportError(
            f"the admin pages at {there} have a certificate that is not trusted: "
            f"{error.verify_message.rstrip('.')}. Name its authority with --ca or TRIMTAB_ADMIN_CA, and ask by a "
            "name that it is issued to",
            endpoint=there,
        ) from error
    except (http.client.HTTPException, OSError) as error:
        if isinstance(error, http.client.BadStatusLine) and not isinstance(error, OSError):
            raise TrimtabError(f"{there} does not answer in HTTP/1.1: {_NOT_ADMIN}") from error
        raise TransportError(
            f"no answer from the admin pages at {there}: {error or type(error).__name__}. "
            "Is `trimtab serve` running there? Name its --admin address with --server or "
            "TRIMTAB_ADMIN (https://HOST:PORT if they need a token); in Kubernetes: kubectl "
            "-n trimtab-system port-forward deploy/trimtab 18001",
            endpoint=there,
        ) from error
    finally:
        connection.close()
    try:
        answer = json.loads(body)
    except ValueError:
        raise TrimtabError(
            f"{there}{path} answered {response.status} without JSON: {_NOT_ADMIN}"
        ) from None
    if response.status != http.client.OK:
        said = str(answer.get("error", answer))
        if response.status in _REFUSALS and server.token_file is not None:
            said = f"{there} refuses the token of --token-file {server.token_file}: {said}"
        raise TrimtabError(said)
    return answer


def _parse(address: str) -> tuple[str, int, bool]:
    """Host, port, and whether it has TLS."""
    try:
        parts = urlsplit(address if "//" in address else f"//{address}")
        if parts.scheme in ("", "http", "https") and parts.hostname and parts.port:
            return parts.hostname, parts.port, parts.scheme == "https"
    except ValueError:
        pass
    raise ConfigError(f"--server {address!r}: is not HOST:PORT; for example 127.0.0.1:18001")
