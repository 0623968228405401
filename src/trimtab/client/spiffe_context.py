"""TLS for HTTP clients that know servers by their SPIFFE ids (SPIFFE X509-SVID, section 5).

The check stands at the end of the handshake, before the first byte of a request, in the classes that
the standard library makes of a context: so it holds for every library that takes one. Certificates of this kind
live for an hour or so, so their files are followed (``tls_context``).
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from trimtab.client.tls_context import Following
from trimtab.client.tls_files import check_paths
from trimtab.errors import ConfigError

_SCHEME = "spiffe://"
_Kind = TypeVar("_Kind", bound="_Checking")


class _Checking(ssl.SSLContext):
    """A context that lets only certain servers through.

    Attributes:
        servers: their ids; one that ends in ``/*`` stands for all below it.
    """

    servers: frozenset[str] = frozenset()

    def check(self, certificate: Any) -> None:
        """Raise ``ssl.SSLCertVerificationError`` unless a verified certificate is that of one of them."""
        names = [name for kind, name in certificate.get("subjectAltName", ()) if kind == "URI"]
        if len(names) == 1 and any(_is(names[0], wanted) for wanted in self.servers):
            return
        shown = " ".join(names) or "no URI name"
        raise ssl.SSLCertVerificationError(
            f"the server's certificate has {shown}; wanted is the one URI name "
            f"{' or '.join(sorted(self.servers))}"
        )


def _is(name: str, wanted: str) -> bool:
    return name.startswith(wanted[:-1]) if wanted.endswith("/*") else name == wanted


class _Object(ssl.SSLObject):
    """For asyncio and other event loops."""

    def do_handshake(self) -> None:
        super().do_handshake()
        _checked(self)


class _Socket(ssl.SSLSocket):
    """For threads."""

    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        _checked(self)


def _checked(connection: ssl.SSLObject | ssl.SSLSocket) -> None:
    context = connection.context
    assert isinstance(context, _Checking)  # noqa: S101 - for the type checker
    context.check(connection.getpeercert() or {})


class _Following(Following, _Checking):
    """One whose files are followed."""

    def _fresh(self) -> ssl.SSLContext:
        return _checking(_Checking, self.servers)


def _checking(kind: type[_Kind], servers: frozenset[str]) -> _Kind:
    context = kind(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.servers = servers
    context.sslobject_class = _Object
    context.sslsocket_class = _Socket
    return context


def spiffe_context(
    ca: str | Path,
    certificate: str | Path | None = None,
    key: str | Path | None = None,
    *,
    servers: Iterable[str],
) -> ssl.SSLContext:
    """A TLS context for HTTP clients that checks which server it is by SPIFFE id, and not by host name.

    Of a server whose certificate has another id, none or more than one, the connection fails before a
    request is sent. The files may be replaced at any time: new connections use their new content within a
    second or two, the old ones go on. Files that are broken, half replaced or expired leave the last good ones
    in use.

    Args:
        ca: the trust domain's authorities, a PEM file.
        certificate: the client's own chain; None: it has none.
        key: of the certificate.
        servers: the ids that may answer, such as ``spiffe://example.org/ns/shop/sa/orders``, or
            ``spiffe://example.org/ns/shop/*`` for all below.

    Raises:
        ConfigError: a file is bad or has expired, or an id is none.
    """
    if not isinstance(servers, Iterable):
        raise ConfigError(f"spiffe_context: servers: {servers!r} is no list of SPIFFE ids")
    wanted = tuple([servers] if isinstance(servers, str) else servers)
    for name in wanted or ("",):
        if (
            not isinstance(name, str)
            or not name.startswith(_SCHEME)
            or "*" in name.removesuffix("/*")
            or name == f"{_SCHEME}*"
        ):
            raise ConfigError(
                f"spiffe_context: servers: {name!r} is no SPIFFE id such as "
                "'spiffe://example.org/ns/shop/sa/orders', or one with '/*' at the end"
            )
    check_paths("spiffe_context", ca=ca, certificate=certificate, key=key)
    if ca is None:
        raise ConfigError("spiffe_context: ca=None: without authorities nobody would be trusted")
    context = _checking(_Following, frozenset(wanted))
    context.begin(
        "spiffe_context", (ca, certificate, None if certificate is None else key or certificate)
    )
    return context
