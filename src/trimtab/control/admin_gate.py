"""Who may read the admin pages: whoever brings a token of a subject that is named.

Health and readiness are open: a kubelet's probes carry no token. ``/metrics`` is open on request only,
since it names Services and, of those whose clients report their load, the endpoints' addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from trimtab.control.authentication import Authenticator, Unauthenticated
from trimtab.control.logs import printable
from trimtab.control.patterns import fits

_PROBES = frozenset({"/healthz", "/readyz"})
_METRICS = "/metrics"
_FORBIDDEN = "forbidden"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not answered.

    Attributes:
        status: the HTTP status.
        reason: a metric's label, from a bounded set.
        text: for the one who asked.
    """

    status: HTTPStatus
    reason: str
    text: str


class AdminGate:
    """Decides on each request.

    Args:
        authenticator: how a token says who asks.
        readers: patterns of the subjects that may read; replaced as a whole when they change.
        open_metrics: ``/metrics`` needs no token.
    """

    def __init__(
        self, authenticator: Authenticator, readers: Sequence[str], *, open_metrics: bool = False
    ) -> None:
        self.readers = readers
        self._authenticator = authenticator
        self._open = _PROBES | {_METRICS} if open_metrics else _PROBES

    async def refusal(self, path: str, authorization: str, peer: str) -> Refusal | None:
        """Why this request may not be answered; None if it may.

        Args:
            path: what is asked for.
            authorization: the header of that name, "" if there is none.
            peer: the address that it comes from.
        """
        if path in self._open:
            return None
        try:
            identity = await self._authenticator.identify(_Header(authorization, peer))
        except Unauthenticated as error:
            return _unknown(error)
        if any(fits(identity.subject, pattern) for pattern in self.readers):
            return None
        return Refusal(
            HTTPStatus.FORBIDDEN,
            _FORBIDDEN,
            f"{printable(identity.subject)} may not read this; name it under admin_readers in the "
            "file given to --config",
        )


def _unknown(error: Unauthenticated) -> Refusal:
    if error.reason in {"unavailable", "pending"}:
        return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, error.reason, str(error))
    text = str(error)
    if error.reason == "no_token":
        text = (
            'a token is needed: header "Authorization: Bearer TOKEN"; commands take it from '
            "--token-file or TRIMTAB_ADMIN_TOKEN_FILE"
        )
    return Refusal(HTTPStatus.UNAUTHORIZED, error.reason, text)


class _Header:
    """A request's header as the metadata of a call; an ``authentication.Proof``."""

    def __init__(self, authorization: str, peer: str) -> None:
        self._peer = peer
        self._metadata = (("authorization", authorization),) if authorization else ()

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """TLS says nothing: no certificate is asked for."""
        return {}

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]]:
        """The header."""
        return self._metadata

    def peer(self) -> str:
        """The address; readers of pages have no ports that matter."""
        return f"{self._peer}:0"
