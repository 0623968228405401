"""What ``trimtab serve`` is told about TLS, identities and tokens, checked and put together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trimtab.control.authentication import Authenticator, Certificates, StaticTokens
from trimtab.control.limits import Limits
from trimtab.control.review_places import ReviewPlaces
from trimtab.control.tls import Certificate, TlsFiles
from trimtab.control.token_review_call import TokenReviewCall
from trimtab.control.token_reviews import TokenReviews
from trimtab.control.verdicts import Verdicts
from trimtab.discovery.kubernetes.access import Access
from trimtab.errors import ConfigError


@dataclass(frozen=True, slots=True)
class SecurityOptions:
    """How the ports are protected.

    Attributes:
        tls: the certificate of the xDS port, and of guarded admin pages; None: plaintext.
        tokens: a file of static tokens for xDS.
        audience: xDS clients' ServiceAccount tokens for this audience are checked by TokenReview.
        reviewer: the API server that checks them.
        admin_tokens: a file of static tokens for the admin pages.
        admin_audience: as ``audience``, for the admin pages.
        open_metrics: ``/metrics`` needs no token.
    """

    tls: TlsFiles | None = None
    tokens: Path | None = None
    audience: str = ""
    reviewer: Access | None = None
    admin_tokens: Path | None = None
    admin_audience: str = ""
    open_metrics: bool = False

    @property
    def guards_admin(self) -> bool:
        """Whether the admin pages need a token, and have TLS therefore."""
        return bool(self.admin_tokens or self.admin_audience)

    @property
    def identifies(self) -> bool:
        """Whether xDS clients must prove who they are."""
        return bool(self.tls and self.tls.client_ca) or bool(self.tokens or self.audience)

    def check(self) -> None:
        """Refuse what can't work together.

        Raises:
            ConfigError: naming the flags.
        """
        self._check_one_way(
            ("--tls-client-ca", self.tls is not None and self.tls.client_ca),
            ("--tokens", self.tokens),
            ("--token-audience", self.audience),
        )
        self._check_one_way(
            ("--admin-tokens", self.admin_tokens), ("--admin-token-audience", self.admin_audience)
        )
        for flag, audience, instead in (
            ("--token-audience", self.audience, "know clients by certificates (--tls-client-ca)"),
            ("--admin-token-audience", self.admin_audience, "give --admin-tokens FILE"),
        ):
            if audience and self.reviewer is None:
                raise ConfigError(
                    f"{flag}: tokens are checked by the one cluster that endpoints are read from; give "
                    "--in-cluster or one --kubeconfig. With several no one API server can check the tokens "
                    f"of all: {instead}"
                )
        if self.open_metrics and not self.guards_admin:
            raise ConfigError(
                "--open-metrics: without --admin-tokens or --admin-token-audience every page is open"
            )

    def _check_one_way(self, *ways: tuple[str, object]) -> None:
        flags = [flag for flag, given in ways if given]
        if len(flags) > 1:
            raise ConfigError(f"{' and '.join(flags)}: give one way to know who asks")
        if flags and self.tls is None:
            raise ConfigError(
                f"{flags[0]}: tokens are sent over TLS only; give --tls-cert and --tls-key too"
            )

    def certificate(self) -> Certificate | None:
        """The certificate, read.

        Raises:
            ConfigError: the files can't be used.
        """
        return Certificate(self.tls) if self.tls else None

    def authenticator(self, verdicts: Verdicts, limits: Limits) -> Authenticator | None:
        """How xDS clients are known; None: they aren't.

        Args:
            verdicts: what is remembered of ServiceAccount tokens.
            limits: how many clients may wait to be known.

        Raises:
            ConfigError: the file of tokens can't be used.
        """
        if self.tokens is not None:
            return StaticTokens.read(self.tokens)
        if self.audience and self.reviewer is not None:
            return _reviews(self.reviewer, self.audience, verdicts, limits)
        return Certificates() if self.tls and self.tls.client_ca else None

    def admin_authenticator(self, verdicts: Verdicts, limits: Limits) -> Authenticator | None:
        """How readers of the admin pages are known; None: they aren't.

        Its reviews are its own, so that nobody who asks for pages can hold up xDS clients.

        Args:
            verdicts: what is remembered of readers' ServiceAccount tokens.
            limits: how many may wait to be known.

        Raises:
            ConfigError: the file of tokens can't be used.
        """
        if self.admin_tokens is not None:
            return StaticTokens.read(self.admin_tokens, "check --admin-tokens")
        if self.admin_audience and self.reviewer is not None:
            return _reviews(self.reviewer, self.admin_audience, verdicts, limits)
        return None


def _reviews(reviewer: Access, audience: str, verdicts: Verdicts, limits: Limits) -> TokenReviews:
    places = ReviewPlaces(limits.pending_streams, limits.pending_per_address)
    return TokenReviews(TokenReviewCall(reviewer, audience), verdicts, places)
