"""TLS settings for an API server, made anew when a certificate changed."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from trimtab.errors import DiscoveryError
from trimtab.tls_trust import trusting


@dataclass(frozen=True, slots=True)
class Pem:
    """A certificate or key: in the configuration itself, or in a file that may change.

    Attributes:
        field: what names it, for messages.
        data: its content; None if it is in a file.
        path: that file.
    """

    field: str
    data: bytes | None = None
    path: Path | None = None

    def read(self) -> bytes:
        """The content as it is now.

        Raises:
            DiscoveryError: the file can't be read.
        """
        if self.data is not None:
            return self.data
        assert self.path is not None  # noqa: S101 - one of the two is given
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise DiscoveryError(
                f"{self.field}: {self.path}: cannot be read: {error.strerror}"
            ) from None

    def __repr__(self) -> str:
        return f"Pem({self.field})"  # the content may be a key


class Tls:
    """What a server's certificate is checked against, and what is shown to it.

    Args:
        authority: whom to trust; None means the system's authorities.
        verify: False only where the configuration says so.
        certificate: the client's certificate.
        key: its key.
    """

    def __init__(
        self,
        authority: Pem | None = None,
        *,
        verify: bool = True,
        certificate: Pem | None = None,
        key: Pem | None = None,
    ) -> None:
        self._authority = authority
        self._verify = verify
        self._certificate = certificate
        self._key = key
        self._made_from: tuple[bytes | None, ...] = ()
        self._context: ssl.SSLContext | None = None

    def context(self, pair: tuple[bytes, bytes] | None = None) -> ssl.SSLContext:
        """The settings as of now; the same object until something changed.

        Args:
            pair: a client certificate and key in place of the configured ones.

        Raises:
            DiscoveryError: a part can't be read, or is no certificate or key.
        """
        authority = self._authority.read() if self._authority else None
        if pair is None and self._certificate and self._key:
            pair = (self._certificate.read(), self._key.read())
        parts = (authority, *(pair or (None, None)))
        if self._context is None or parts != self._made_from:
            self._context = self._make(authority, pair)
            self._made_from = parts
        return self._context

    def _make(self, authority: bytes | None, pair: tuple[bytes, bytes] | None) -> ssl.SSLContext:
        try:
            context = trusting(cadata=_text(authority))
        except (ssl.SSLError, ValueError) as error:
            field = self._authority.field if self._authority else ""
            raise DiscoveryError(
                f"{field}: is no PEM certificate: {error}; give the authority's certificate"
            ) from None
        if not self._verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if pair is not None:
            self._show(context, pair)
        return context

    def _show(self, context: ssl.SSLContext, pair: tuple[bytes, bytes]) -> None:
        # OpenSSL wants a file; one in memory is never on a disk, and needs none that is writable.
        number = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
        try:
            with os.fdopen(number, "wb", closefd=False) as file:
                file.write(b"\n".join(pair))
            context.load_cert_chain(f"/proc/self/fd/{number}", password=_no_password)
        except (ssl.SSLError, ValueError, OSError) as error:
            field = self._certificate.field if self._certificate else "the credential program"
            raise DiscoveryError(
                f"{field}: certificate and key can't be used: {error}; give both as PEM, belonging "
                "together, the key not encrypted"
            ) from None
        finally:
            os.close(number)


def _text(authority: bytes | None) -> str | None:
    text = None if authority is None else authority.decode("ascii", "ignore")
    if text is not None and not text.strip():
        # The ssl module would trust the system's authorities in its place, all of them.
        raise ValueError("it is empty")
    return text


def _no_password() -> str:
    raise ValueError("the key is encrypted")
