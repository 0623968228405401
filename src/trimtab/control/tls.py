"""The certificate of the xDS port and of guarded admin pages, read again when its files change.

Both look for each handshake. A pair that doesn't fit together, as while the files are being
replaced, is passed over and the last good one stays.

gRPC must not be given a pair while other handshakes begin: it frees what it made of the old one, which
they may be about to take (grpc/grpc#36693), and the process dies. So it gets each pair once, after a
pause.
"""

from __future__ import annotations

import datetime as dt
import logging
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from trimtab.certificate_dates import validities
from trimtab.errors import ConfigError

_LOG = logging.getLogger(__name__)

_PAUSE_S = 0.02
_PAUSES = 5
_wait = threading.Event().wait  # nobody sets it


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files.

    Attributes:
        certificate: the server's chain.
        key: its private key.
        client_ca: the authorities that clients' certificates are checked against; None asks for
            none.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def paths(self) -> tuple[Path, ...]:
        """The files there are."""
        return (self.certificate, self.key, *((self.client_ca,) if self.client_ca else ()))

    def context(self) -> ssl.SSLContext:
        """A server's settings with these files; clients are not asked for a certificate.

        Raises:
            ConfigError: naming the files that can't be used, and the reason.
        """
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate, self.key, password=_no_password)
            if self.client_ca is not None:
                context.load_verify_locations(self.client_ca)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            names = ", ".join(str(path) for path in self.paths())
            raise ConfigError(
                f"TLS files {names}: {error}; give PEM files, a key without a password that belongs "
                "to the certificate"
            ) from None
        return context


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What the files hold, as gRPC and as HTTP take it."""

    pair: grpc.ServerCertificateConfiguration
    context: ssl.SSLContext
    validity: tuple[dt.datetime, dt.datetime] | None


class Certificate:
    """The files' latest good content.

    Raises:
        ConfigError: the files can't be used at the start.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._lock = threading.Lock()  # gRPC asks on threads of its own
        context = files.context()
        self._stamp = self._stamp_now()
        self._current = self._read(context)

    def credentials(self) -> grpc.ServerCredentials:
        """Server credentials that follow the files, for one port: each new pair is given once."""
        first = self._latest().pair
        return grpc.dynamic_ssl_server_credentials(
            first,
            _Handover(first, lambda: self._latest().pair),  # type: ignore[arg-type]  # None: no news
            require_client_authentication=self._files.client_ca is not None,
        )

    def validity(self) -> tuple[dt.datetime, dt.datetime] | None:
        """From when until when all of the latest good chain is valid; None: it can't be read."""
        return self._latest().validity

    def context(self) -> ssl.SSLContext:
        """Settings of an HTTP server that follow the files, by a change of context in each handshake.

        Loading a new pair into a context in use would leave it broken if the pair doesn't fit.
        """
        door = self._files.context()
        door.sni_callback = self._enter
        return door

    def _enter(self, connection: ssl.SSLObject, _name: str | None, _door: ssl.SSLContext) -> None:
        connection.context = self._latest().context

    def _latest(self) -> _Loaded:
        with self._lock:
            try:
                stamp = self._stamp_now()
                if stamp != self._stamp:
                    self._current = self._read(self._files.context())
                    self._stamp = stamp
                    _LOG.info("the certificate was replaced; new connections get it")
            except (ConfigError, OSError) as error:
                _LOG.warning("%s; the last good certificate stays in use", error)
            return self._current

    def _read(self, context: ssl.SSLContext) -> _Loaded:
        client_ca = self._files.client_ca
        pair = (self._files.key.read_bytes(), self._files.certificate.read_bytes())
        roots = client_ca.read_bytes() if client_ca else None
        found = grpc.ssl_server_certificate_configuration([pair], root_certificates=roots)
        return _Loaded(found, context, _validity(pair[1]))

    def _stamp_now(self) -> tuple[tuple[int, int, int], ...]:
        stats = [path.stat() for path in self._files.paths()]
        return tuple((s.st_mtime_ns, s.st_ino, s.st_size) for s in stats)


class _Handover:
    """What gRPC asks at each handshake: whether there is a pair that it doesn't have yet.

    gRPC asks under a lock of its own, and puts what it gets in the old one's place before it lets go.
    So while this pauses no handshake begins, and those that had just begun have the time to take hold
    of the old pair; then its end harms nobody. The pause has several
    parts, so that a process that stood still for the whole of one (no CPU left) has the others.

    Args:
        given: the pair that gRPC begins with.
        latest: the pair that it should have.
        pause: waits so many seconds.
    """

    def __init__(
        self,
        given: grpc.ServerCertificateConfiguration,
        latest: Callable[[], grpc.ServerCertificateConfiguration],
        pause: Callable[[float], object] = _wait,
    ) -> None:
        self._given = given
        self._latest = latest
        self._pause = pause
        self._lock = threading.Lock()

    def __call__(self) -> grpc.ServerCertificateConfiguration | None:
        with self._lock:
            pair = self._latest()
            if pair is self._given:
                return None
            for _ in range(_PAUSES):
                self._pause(_PAUSE_S)
            self._given = pair
            return pair


def _validity(chain: bytes) -> tuple[dt.datetime, dt.datetime] | None:
    try:
        begins, ends = zip(*validities(chain), strict=True)
    except ValueError:  # OpenSSL took what we can't read: then nobody is warned
        return None
    return max(begins), min(ends)


def _no_password() -> str:
    raise ValueError("the private key has a password")
