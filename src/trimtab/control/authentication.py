"""Who is at the other end of a stream: by its certificate, or by the token that it sends.

A token is never logged, and is remembered by its hash only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Protocol

import msgspec

from trimtab.control.authorization import Identity, spiffe
from trimtab.control.config import read_yaml
from trimtab.errors import ConfigError, TrimtabError

MAX_TOKEN = 16 << 10
_BEARER = "bearer "


class Unauthenticated(TrimtabError):  # noqa: N818 - gRPC's own word
    """A client has not proved who it is.

    Attributes:
        reason: a metric's label, from a bounded set.
    """

    def __init__(self, text: str, *, reason: str) -> None:
        super().__init__(text)
        self.reason = reason


class Proof(Protocol):
    """What a call carries; grpc's ``ServicerContext`` has it."""

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """What TLS found out about the peer."""

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """The metadata of the call."""

    def peer(self) -> str:
        """Where it comes from: an address, a colon and a port."""


class Authenticator(Protocol):
    """One way to know clients."""

    async def identify(self, call: Proof) -> Identity:
        """Say who calls.

        Raises:
            Unauthenticated: it can't be said.
        """

    @property
    def missing(self) -> str:
        """The right that it lacks to know anybody, as far as it has found out; "" if none."""

    async def prepare(self) -> None:
        """Find out whether it can know anybody; return once it can."""

    async def close(self) -> None:
        """Close what it holds open."""


class _Ready:
    """The parts of an ``Authenticator`` that needs nothing and holds nothing open."""

    missing = ""

    async def prepare(self) -> None:
        """See ``Authenticator``."""

    async def close(self) -> None:
        """See ``Authenticator``."""


class Certificates(_Ready):
    """Knows clients by the certificate that TLS has verified against the client authority."""

    async def identify(self, call: Proof) -> Identity:
        """See ``Authenticator``: the SPIFFE id, else the certificate's first name."""
        context = call.auth_context()
        names = [_text(n) for n in context.get("x509_subject_alternative_name", ())]
        # Of gRPC's, not of ``names``: there a DNS name that is spelt like a SPIFFE id looks the same, and
        # gRPC gives none where a certificate has several URI names, which SPIFFE forbids.
        for uri in map(_text, context.get("peer_spiffe_id", ())):
            if (identity := spiffe(uri)) is not None:
                return identity
        names += [_text(n) for n in context.get("x509_common_name", ())]
        if not names or not names[0]:
            raise Unauthenticated(
                "the client's certificate names nobody; issue it with a SPIFFE id (a URI name)",
                reason="no_name",
            )
        return Identity(f"x509:{names[0]}")


class StaticToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the file behind ``--tokens``.

    Attributes:
        name: the subject is ``static:NAME``.
        sha256: the token's SHA-256 in hexadecimal digits.
        namespace: the namespace that the client belongs to.
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    namespace: str = ""


class StaticTokens(_Ready):
    """Knows clients by tokens from a file: for tests and development.

    Args:
        tokens: the entries.
    """

    def __init__(self, tokens: Sequence[StaticToken]) -> None:
        self._known = {t.sha256: Identity(f"static:{t.name}", t.namespace) for t in tokens}

    @classmethod
    def read(cls, path: Path, hint: str = "check --tokens") -> StaticTokens:
        """Read the file: a YAML list of ``name``, ``sha256`` and ``namespace``.

        Args:
            path: of the file.
            hint: what to do where it can't be read.

        Raises:
            ConfigError: it can't be read or is wrong.
        """
        content = read_yaml(path, hint)
        try:
            return cls(msgspec.convert(content or [], list[StaticToken]))
        except msgspec.ValidationError as error:
            raise ConfigError(
                f"{path}: {error}; each entry has name, sha256 (of the token, 64 hexadecimal "
                "digits) and namespace"
            ) from None

    async def identify(self, call: Proof) -> Identity:
        """See ``Authenticator``."""
        # A lookup by hash: how long it takes tells nothing about the tokens that are known.
        identity = self._known.get(token_hash(bearer_token(call)))
        if identity is None:
            raise Unauthenticated("the token is not known here", reason="refused")
        return identity


def bearer_token(call: Proof) -> str:
    """The token of a call's ``authorization`` metadata.

    Raises:
        Unauthenticated: there is none.
    """
    for key, value in call.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str):
            known = value[: len(_BEARER)].lower() == _BEARER and len(value) <= MAX_TOKEN
            if known and value.isascii():  # of others, bytes of a header may be no text at all
                return value[len(_BEARER) :].strip()
            break
    raise Unauthenticated(
        'a token is needed: metadata "authorization: Bearer TOKEN" (call_creds jwt_token_file in the '
        "bootstrap)",
        reason="no_token",
    )


def token_hash(token: str) -> str:
    """What a token is remembered by."""
    return hashlib.sha256(token.encode()).hexdigest()


def _text(name: bytes) -> str:
    return name.decode(errors="replace")
