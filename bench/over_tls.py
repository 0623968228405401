"""TLS between the control plane and the clients of a benchmark, switched on for all of its processes.

The certificate is of ECDSA P-256. Clients prove nothing and check nothing: what is measured is the server.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trustme

from trimtab.control.security import SecurityOptions
from trimtab.control.tls import TlsFiles

_FOLDER = "TRIMTAB_BENCH_TLS"  # of the certificate; child processes inherit it


@contextmanager
def switched(*, on: bool) -> Iterator[None]:
    """Processes that are started within it speak TLS, or plaintext."""
    if not on:
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        leaf = trustme.CA().issue_cert("localhost")
        files = _files(folder)
        files.certificate.write_bytes(b"".join(part.bytes() for part in leaf.cert_chain_pems))
        files.key.write_bytes(leaf.private_key_pem.bytes())
        os.environ[_FOLDER] = folder
        try:
            yield
        finally:
            del os.environ[_FOLDER]


def server_side() -> SecurityOptions:
    """The settings of this process' control plane."""
    folder = os.environ.get(_FOLDER)
    return SecurityOptions(_files(folder)) if folder else SecurityOptions()


def client_side() -> ssl.SSLContext | None:
    """The settings of this process' clients; None: plaintext."""
    if _FOLDER not in os.environ:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


def _files(folder: str) -> TlsFiles:
    return TlsFiles(Path(folder) / "tls.crt", Path(folder) / "tls.key")
