"""TLS settings that check a server's certificate as kubectl, curl and gRPC do, whatever Python runs them."""

from __future__ import annotations

import ssl
from pathlib import Path


def trusting(*, cafile: Path | None = None, cadata: str | None = None) -> ssl.SSLContext:
    """Settings that trust these authorities (PEM); the system's where neither is given.

    From Python 3.13 the standard ones refuse certificates that break RFC 5280 in form alone: those
    of many EKS clusters have no key identifiers, those of some MicroK8s an authority without key usage. Before
    3.13, they took only roots for authorities, where an issuer in between may be all that is given.

    Raises:
        OSError: the file can't be read, or is no certificate (``ssl.SSLError`` is one).
        ValueError: ``cadata`` is no text of certificates.
    """
    context = ssl.create_default_context(cafile=cafile, cadata=cadata)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
