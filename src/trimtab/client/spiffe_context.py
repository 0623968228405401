"""TLS for HTTP clients that know servers by their SPIFFE ids (SPIFFE X509-SVID, section 5).

The check stands at the end of the handshake, before the first byte of a request, in the classes that
the standard library makes of a context: so it holds for every library that takes one. Certificates of this kind
live for an hour or so, so their files are followed (``tls_files``). A context that is in use is never changed: each
change of the files makes another one, and new connections are that one's.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from trimtab.client.tls_files import TlsCredentials, check_paths
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


class _Following(_Checking):
    """One whose files may be replaced; what else is set on it holds for its successors, too, but for what is loaded into it.

    Attributes:
        files: what the files have now.
    """

    files: TlsCredentials

    def begin(self, files: TlsCredentials, paths: tuple[str | Path | None, ...]) -> None:
        """Take the files, which have been looked at."""
        self.files = files
        self._paths = paths
        self._generation = files.generation
        self._successor: _Checking | None = None
        self._protocols: list[str] = []
        _load(self, *paths)

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """See ``ssl``; the libraries call it before each connection."""
        self._protocols = list(alpn_protocols)
        super().set_alpn_protocols(self._protocols)
        if self._successor is not None:
            self._successor.set_alpn_protocols(self._protocols)

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        """See ``ssl``."""
        now = self._present()
        return super().wrap_bio(*args, **options) if now is None else now.wrap_bio(*args, **options)

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        """See ``ssl``."""
        now = self._present()
        if now is None:
            return super().wrap_socket(*args, **options)
        return now.wrap_socket(*args, **options)

    def _present(self) -> _Checking | None:
        """The context for a new connection; None: this one itself."""
        self.files.poll()
        generation = self.files.generation
        if generation != self._generation:  # in several threads at once: the last one stays
            try:
                self._successor = self._made()
            except (OSError, ValueError):  # they are being replaced again: the next one looks again
                return self._successor
            self._generation = generation
        return self._successor

    def _made(self) -> _Checking:
        made = _checking(_Checking, self.servers)
        made.options, made.verify_flags = self.options, self.verify_flags
        made.minimum_version, made.maximum_version = self.minimum_version, self.maximum_version
        # Those of TLS 1.3 can't be chosen.
        older = [c["name"] for c in self.get_ciphers() if c["protocol"] != "TLSv1.3"]
        made.set_ciphers(":".join((*older, f"@SECLEVEL={self.security_level}")))
        made.post_handshake_auth = self.post_handshake_auth
        if self.keylog_filename is not None:
            made.keylog_filename = self.keylog_filename
        if self._protocols:
            made.set_alpn_protocols(self._protocols)
        _load(made, *self._paths)
        return made


def _checking(kind: type[_Kind], servers: frozenset[str]) -> _Kind:
    context = kind(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.servers = servers
    context.sslobject_class = _Object
    context.sslsocket_class = _Socket
    return context


def _load(
    context: ssl.SSLContext,
    ca: str | Path | None,
    certificate: str | Path | None,
    key: str | Path | None,
) -> None:
    context.load_verify_locations(ca)
    if certificate is not None:
        context.load_cert_chain(certificate, key, password=lambda: "")


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
    try:
        files = TlsCredentials(
            Path(ca),
            None if certificate is None else Path(certificate),
            None if certificate is None else Path(key or certificate),
            None,
            time.monotonic,  # noqa: TID251 - the door gives the core its clock
            time.time,  # noqa: TID251 - certificates end by the wall clock
        )
        context = _checking(_Following, frozenset(wanted))
        context.begin(files, (ca, certificate, key))
    except (ConfigError, OSError, ValueError) as error:
        named = ", ".join(str(file) for file in (ca, certificate, key) if file is not None)
        raise ConfigError(f"spiffe_context: {error}: look at {named}") from None
    return context
