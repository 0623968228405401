"""What users read when a name has no endpoints: what happened, since when, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failure:
    """One control plane that can't be used.

    Attributes:
        uri: its address, as the bootstrap gives it.
        age_s: how long ago it was lost [s].
        error: gRPC's text, or what was wrong with its answer.
        plaintext: whether it is asked without TLS.
    """

    uri: str
    age_s: float
    error: str
    plaintext: bool = True

    @property
    def advice(self) -> str:
        """What to do about it."""
        if self.error.startswith(("UNAUTHENTICATED", "PERMISSION_DENIED")):
            return (
                f"it runs, so check this client's token ({_BEARER}) or certificate ({_CERTIFICATE})"
            )
        if self.plaintext and any(text in self.error for text in _NO_PLAINTEXT):
            return f"if it speaks TLS, say whom to trust ({_CA}); else check its address"
        if "CERTIFICATE_VERIFY_FAILED" in self.error:
            return f"check whom this client trusts ({_CA})"
        if "Hostname Verification" in self.error:
            return "write the address with a name that its certificate is issued to"
        if self.error.startswith("[Errno"):
            return "check that the file is there and may be read"
        return "check that it runs and that its address is right"


# By gRPC's own texts: where these change, the general advice is left.
_NO_PLAINTEXT = ("Socket closed", "Connection reset")
_CA = "TRIMTAB_CA, or ca_certificate_file in the bootstrap"
_BEARER = "TRIMTAB_TOKEN_FILE, or jwt_token_file in the bootstrap"
_CERTIFICATE = "TRIMTAB_CERTIFICATE and TRIMTAB_KEY"


def unreachable(name: str, failures: Sequence[Failure], origin: str) -> str:
    """No control plane answers."""
    each = "; ".join(
        f"control plane {f.uri} unreachable for {_age(f.age_s)}: {f.error}" for f in failures
    )
    advice = "; ".join(dict.fromkeys(f.advice for f in failures))
    return (
        f"{name}: {each}; no endpoints are known yet; trimtab tries again until one answers; "
        f"{advice} (from {origin})"
    )


def silent(name: str, uri: str, age_s: float, missing: str) -> str:
    """A control plane accepted the stream and does not answer, ``missing`` says what."""
    return (
        f"{name}: control plane {uri} has not sent {missing} for {_age(age_s)}; it may still be "
        "reading its sources (see its /readyz); trimtab takes the answer when it comes"
    )


def absent(name: str, uri: str, reason: str) -> str:
    """A control plane says that there is no such service."""
    said = reason if name in reason else f"{name}: {reason}"
    return (
        f"{said} (control plane {uri}); check the target's service, namespace and port; "
        "trimtab takes it up as soon as it exists"
    )


def rejected(name: str, uri: str, reason: str) -> str:
    """A control plane sent a resource that can't be used, and nothing better is known."""
    return (
        f"{name}: control plane {uri} sent a configuration that can't be used: {reason}; "
        "correct it there; trimtab takes the next version"
    )


def _age(seconds: float) -> str:
    if seconds < 120:  # noqa: PLR2004 - two minutes read better as seconds
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"
