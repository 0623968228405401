"""How an API server is reached, and as whom."""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urlsplit

from trimtab.discovery.kubernetes.credentials import Credentials
from trimtab.discovery.kubernetes.tls import Tls

_IN_URL = re.compile(r"//[^/\s]*@")


def without_secrets(text: str) -> str:
    """The text as it may be shown: the URLs in it without name and password."""
    return _IN_URL.sub("//...@", text)


def api_address(access: Access) -> tuple[str, int] | None:
    """Address and port of the API server; None where it is known by a name or through a proxy."""
    url = urlsplit(access.server)
    try:
        address = str(ipaddress.ip_address(url.hostname or ""))
        port = url.port or (443 if url.scheme == "https" else 80)
    except ValueError:
        return None
    return None if access.proxy else (address, port)


class Access(Protocol):
    """One API server, and the credentials for it.

    Attributes:
        name: the context's name, or ``in-cluster``.
        server: its URL without a slash at the end, maybe with a path.
        proxy: the proxy's URL, None for none.
        tls_server_name: what its certificate is issued to, where that isn't the URL's host.
        namespace: the context's or pod's own namespace.
        origin: where this comes from, for messages.
    """

    name: str
    server: str
    proxy: str | None
    tls_server_name: str | None
    namespace: str
    origin: str

    async def headers(self, *, refused: bool = False) -> Mapping[str, str]:
        """The credentials for the next request.

        Args:
            refused: the server answered 401 to those given last, so cached ones are of no use.

        Raises:
            DiscoveryError: they can't be had; the text names the file or program, and the fix.
        """

    async def tls(self) -> ssl.SSLContext | bool:
        """The TLS settings for the next connection: the same object until something changed.

        Raises:
            DiscoveryError: a certificate file can't be used.
        """


class ApiServer:
    """An API server with credentials and TLS settings; an ``Access``.

    Args:
        name: the context's name.
        server: its URL.
        origin: where this comes from, for messages.
        credentials: who one is.
        tls: what its certificate is checked against.
        namespace: the context's own namespace.
        proxy: the proxy's URL.
        tls_server_name: what its certificate is issued to.
        impersonation: headers that say as whom to act.
    """

    def __init__(
        self,
        *,
        name: str,
        server: str,
        origin: str,
        credentials: Credentials,
        tls: Tls,
        namespace: str = "default",
        proxy: str | None = None,
        tls_server_name: str | None = None,
        impersonation: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.server = server.rstrip("/")
        self.origin = origin
        self.namespace = namespace
        self.proxy = proxy
        self.tls_server_name = tls_server_name
        self._credentials = credentials
        self._tls = tls
        self._impersonation = dict(impersonation or {})

    async def headers(self, *, refused: bool = False) -> Mapping[str, str]:
        """See ``Access``. None go over plain HTTP, where anybody could read them; as with kubectl."""
        if not self.server.startswith("https:"):
            return {}
        return {**await self._credentials.headers(refused=refused), **self._impersonation}

    async def tls(self) -> ssl.SSLContext | bool:
        """See ``Access``."""
        if not self.server.startswith("https:"):
            return True
        return self._tls.context(await self._credentials.pair())
