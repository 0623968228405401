"""How an API server is reached, and as whom."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Protocol


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
