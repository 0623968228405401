"""TLS contexts for HTTP clients from files that others replace: a Kubernetes secret's, cert-manager's, SPIRE's.

A context that is in use is never changed: each change of the files makes another one, and new connections are
that one's. Which files are good is ``tls_files``' business.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trimtab.client.tls_files import TlsCredentials, check_paths
from trimtab.errors import ConfigError

Paths = tuple[str | Path | None, str | Path | None, str | Path | None]


class Following(ssl.SSLContext):
    """One whose files may be replaced; what else is set on it holds for its successors, too, but for what is loaded into it.

    Attributes:
        files: what the files have now.
    """

    files: TlsCredentials

    def begin(self, where: str, paths: Paths) -> None:
        """Take the files: the authorities', and the client's chain and its key.

        Raises:
            ConfigError: one is bad or has expired; the text begins with ``where``.
        """
        ca, certificate, key = (None if path is None else Path(path) for path in paths)
        try:
            self.files = TlsCredentials(
                ca,
                certificate,
                key,
                None,
                time.monotonic,  # noqa: TID251 - the door gives the core its clock
                time.time,  # noqa: TID251 - certificates end by the wall clock
            )
            _load(self, paths)
        except (ConfigError, OSError, ValueError) as error:
            named = ", ".join(str(path) for path in paths if path is not None)
            raise ConfigError(f"{where}: {error}: look at {named}") from None
        self._paths = paths
        self._generation = self.files.generation
        self._successor: ssl.SSLContext | None = None
        self._protocols: list[str] = []

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

    def _present(self) -> ssl.SSLContext | None:
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

    def _fresh(self) -> ssl.SSLContext:
        """One of this kind, with nothing loaded."""
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def _made(self) -> ssl.SSLContext:
        made = self._fresh()
        made.check_hostname = False  # else the next line may be refused
        made.verify_mode, made.check_hostname = self.verify_mode, self.check_hostname
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
        _load(made, self._paths)
        return made


def _load(context: ssl.SSLContext, paths: Paths) -> None:
    ca, certificate, key = paths
    if ca is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(ca)
    if certificate is not None:
        context.load_cert_chain(certificate, key, password=lambda: "")


def tls_context(
    ca: str | Path | None = None,
    certificate: str | Path | None = None,
    key: str | Path | None = None,
) -> ssl.SSLContext:
    """A TLS context for HTTP clients from PEM files, which may be replaced at any time.

    Servers are known by their names, as is usual. New connections use the files' new content within a second or
    two, the old ones go on. Files that are broken, half replaced or expired leave the last good ones in use.

    Args:
        ca: the authorities that servers' certificates are checked with; None: the system's.
        certificate: the client's chain, its own first; None: it has none.
        key: of the certificate, not encrypted.

    Raises:
        ConfigError: a file can't be read, is broken or has expired, or only one of certificate and key is
            given.
    """
    check_paths("tls_context", ca=ca, certificate=certificate, key=key)
    if (certificate is None) is not (key is None):
        raise ConfigError(
            "tls_context: certificate= and key= belong together; give both, or neither"
        )
    context = Following(ssl.PROTOCOL_TLS_CLIENT)
    context.begin("tls_context", (ca, certificate, key))
    return context
