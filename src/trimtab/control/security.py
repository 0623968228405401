"""What ``trimtab serve`` is told about TLS, identities and tokens, checked and put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trimtab.control.authentication import Authenticator, Certificates, StaticTokens
from trimtab.control.tls import Certificate, TlsFiles
from trimtab.control.token_reviews import TokenReviews
from trimtab.discovery.kubernetes.access import Access
from trimtab.errors import ConfigError


@dataclass(frozen=True, slots=True)
class SecurityOptions:
    """How the xDS port is protected.

    Attributes:
        tls: its certificate; None: plaintext.
        tokens: a file of static tokens.
        audience: ServiceAccount tokens for this audience are checked by TokenReview.
        reviewer: the API server that checks them.
    """

    tls: TlsFiles | None = None
    tokens: Path | None = None
    audience: str = ""
    reviewer: Access | None = None

    @property
    def identifies(self) -> bool:
        """Whether clients must prove who they are."""
        return bool(self.tls and self.tls.client_ca) or bool(self.tokens or self.audience)

    def check(self) -> None:
        """Refuse what can't work together.

        Raises:
            ConfigError: naming the flags.
        """
        ways = [
            flag
            for flag, given in (
                ("--tls-client-ca", self.tls is not None and self.tls.client_ca),
                ("--tokens", self.tokens),
                ("--token-audience", self.audience),
            )
            if given
        ]
        if len(ways) > 1:
            raise ConfigError(f"{' and '.join(ways)}: give one way to identify clients")
        if self.audience and self.reviewer is None:
            raise ConfigError(
                "--token-audience: tokens are checked by the cluster that endpoints are read from; "
                "give --in-cluster or --kubeconfig"
            )
        if ways and self.tls is None:
            raise ConfigError(
                f"{ways[0]}: gRPC sends tokens over TLS only; give --tls-cert and --tls-key too"
            )

    def certificate(self) -> Certificate | None:
        """The certificate, read.

        Raises:
            ConfigError: the files can't be used.
        """
        return Certificate(self.tls) if self.tls else None

    def authenticator(self, clock: Callable[[], float]) -> Authenticator | None:
        """How clients are known; None: they aren't.

        Raises:
            ConfigError: the file of tokens can't be used.
        """
        if self.tokens is not None:
            return StaticTokens.read(self.tokens)
        if self.audience and self.reviewer is not None:
            return TokenReviews(self.reviewer, self.audience, clock=clock)
        return Certificates() if self.tls and self.tls.client_ca else None
