"""TLS credentials from files that others replace: Kubernetes' secrets, cert-manager, SPIRE's helper.

They are compared by content, since a secret is replaced by moving a symbolic link. What is half
written, doesn't fit together or has expired is not taken: the last good ones stay in use, and the log
says so once.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from trimtab.certificate_dates import validities
from trimtab.client.forking import watch_forks
from trimtab.errors import ConfigError

_log = logging.getLogger("trimtab.client")

POLL_S = 1.0

Contents = tuple[bytes | None, bytes | None, bytes | None]


class TlsCredentials(grpc.ChannelCredentials):
    """Credentials as their files have them now; ``tls_credentials`` makes them.

    They are gRPC's own kind, so every channel takes them. A trimtab channel follows their changes; another
    one keeps what they were when it was made.

    Attributes:
        generation: goes up whenever they change.
        complaint: what is wrong with the files now, "" if nothing is.
    """

    def __init__(
        self,
        ca: Path | None,
        certificate: Path | None,
        key: Path | None,
        call: grpc.CallCredentials | None,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._files = (ca, certificate, key)
        self._call = call
        self._clock = clock
        self._wall = wall
        self._lock = threading.Lock()
        self._seen = self._good = self._read()
        self.generation = 0
        self.complaint = self._fault(self._seen)
        if self.complaint:
            raise ConfigError(self.complaint)
        self._polled = clock()
        self._native = self._made(self._good)
        watch_forks(self)

    def forked(self) -> None:
        """See ``forking.Copied``: a child's channels may use them, and somebody may have been polling."""
        self._lock = threading.Lock()
        watch_forks(self)

    @property
    def _credentials(self) -> Any:
        """What gRPC's own factories take from credentials, whenever a connection is made."""
        native: Any = self._native
        return native._credentials  # noqa: SLF001 - as gRPC itself does

    def poll(self) -> None:
        """Look at the files, at most once a second, however many channels ask. From any thread."""
        now = self._clock()
        with self._lock:
            if now - self._polled < POLL_S:
                return
            self._polled = now
            self._look()

    def _look(self) -> None:
        try:
            seen = self._read()
        except ConfigError as error:
            self._complain(str(error), "the last good ones stay in use")
            return
        if seen != self._good:
            fault = self._fault(seen)
            if fault:
                self._complain(fault, "the last good ones stay in use")
                return
            if self._read() != seen:  # they are being replaced at this moment
                return
            self._good = seen
            self._native = self._made(seen)
            self.generation += 1
            self.complaint = ""
            _log.info("TLS files have changed: %s; new connections use them", self._named())
        else:
            self._complain(self._expired(seen), "replace it")

    def _complain(self, fault: str, then: str) -> None:
        if fault and fault != self.complaint:
            _log.error("%s; %s", fault, then)
        self.complaint = fault

    def _named(self) -> str:
        return ", ".join(str(file) for file in self._files if file is not None)

    def _read(self) -> Contents:
        found: list[bytes | None] = []
        for file in self._files:
            try:
                found.append(None if file is None else file.read_bytes())
            except OSError as error:
                raise ConfigError(f"TLS file {file}: {error.strerror}") from None
        return found[0], found[1], found[2]

    def _fault(self, contents: Contents) -> str:
        """What is wrong with these, "" if nothing is."""
        ca, certificate, key = self._files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if contents[0] is not None:
            try:
                context.load_verify_locations(cadata=contents[0].decode("ascii", "replace"))
            except (ssl.SSLError, ValueError) as error:
                return f"TLS file {ca}: {error}: not PEM certificates"
        if certificate is not None and key is not None:
            try:
                context.load_cert_chain(certificate, key, password=lambda: "")
            except (OSError, ValueError) as error:
                return f"TLS files {certificate} and {key}: {error}: not a certificate and its key"
        return self._expired(contents)

    def _expired(self, contents: Contents) -> str:
        """Which file has expired: authorities only when all of them have."""
        now = dt.datetime.fromtimestamp(self._wall(), dt.UTC)
        for file, pem, which in zip(self._files, contents, (max, min, None), strict=True):
            if pem is None or which is None:
                continue
            try:
                ends = [end for _, end in validities(pem)]
            except ValueError as error:
                return f"TLS file {file}: {error}"
            if ends and which(ends) <= now:
                end = which(ends)
                return f"TLS file {file}: the certificate expired on {end:%Y-%m-%d at %H:%M:%S} UTC"
        return ""

    def _made(self, contents: Contents) -> grpc.ChannelCredentials:
        ca, certificate, key = contents
        made = grpc.ssl_channel_credentials(ca, key, certificate)
        return made if self._call is None else grpc.composite_channel_credentials(made, self._call)


def check_paths(where: str, **files: object) -> None:
    """Refuse what names no file; None is none.

    Raises:
        ConfigError: one is neither text nor a path.
    """
    for argument, file in files.items():
        if file is not None and (not isinstance(file, str | os.PathLike) or not str(file)):
            raise ConfigError(f"{where}: {argument}={file!r} is no path of a PEM file")


def tls_credentials(
    ca: str | Path | None = None,
    certificate: str | Path | None = None,
    key: str | Path | None = None,
    *,
    call: grpc.CallCredentials | None = None,
) -> grpc.ChannelCredentials:
    """TLS credentials for ``secure_channel`` from PEM files, which may be replaced at any time.

    New connections use the files' new content within a second or two; the old connections are replaced a
    few at a time and drain. Files that are broken, half replaced or expired leave the last good ones
    in use.

    Args:
        ca: the authorities that servers' certificates are checked with; None: the system's.
        certificate: the client's chain, its own first; None: it has none.
        key: of the certificate, not encrypted.
        call: goes with each call, such as a token.

    Raises:
        ConfigError: a file can't be read, is broken or has expired, or only one of certificate and key is
            given.
    """
    check_paths("tls_credentials", ca=ca, certificate=certificate, key=key)
    if (certificate is None) is not (key is None):
        raise ConfigError(
            "tls_credentials: certificate= and key= belong together; give both, or neither"
        )
    if not isinstance(call, grpc.CallCredentials | None):
        raise ConfigError(
            f"tls_credentials: call={call!r} is no grpc.CallCredentials, such as "
            "grpc.access_token_call_credentials(token)"
        )
    return TlsCredentials(
        None if ca is None else Path(ca),
        None if certificate is None else Path(certificate),
        None if key is None else Path(key),
        call,
        time.monotonic,  # noqa: TID251 - the door gives the core its clock
        time.time,  # noqa: TID251 - certificates end by the wall clock
    )
