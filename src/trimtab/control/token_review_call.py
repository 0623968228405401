"""One question to the API server: whose is this token (TokenReview)."""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace

import aiohttp
import msgspec

from trimtab.control.authentication import Unauthenticated
from trimtab.control.authorization import Identity, service_account
from trimtab.discovery.kubernetes.access import Access
from trimtab.errors import DiscoveryError

_TIMEOUT_S = 10.0
_PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
_CREATED = range(200, 300)
_UNAUTHORIZED, _FORBIDDEN = 401, 403
NOBODY = "no-token-but-a-question-whether-trimtab-may-ask"


class NoRightError(DiscoveryError):
    """trimtab's own account may not have tokens checked."""


class _User(msgspec.Struct):
    username: str = ""


class _Status(msgspec.Struct):
    authenticated: bool = False
    user: _User = msgspec.field(default_factory=_User)
    audiences: list[str] | None = None
    error: str = ""


class _Review(msgspec.Struct):
    status: _Status = msgspec.field(default_factory=_Status)


class _Claims(msgspec.Struct):
    exp: float | None = None


class TokenReviewCall:
    """Asks, over one session that is opened by the first question.

    Args:
        access: the API server to ask.
        audience: what tokens must be issued for.
    """

    def __init__(self, access: Access, audience: str) -> None:
        self._access = access
        self._audience = audience
        self._session: aiohttp.ClientSession | None = None

    async def may_ask(self) -> None:
        """Ask about a token that is none.

        Raises:
            DiscoveryError: there is no answer; ``NoRightError`` if the right is missing.
        """
        await self._status(NOBODY)

    async def verdict(self, token: str) -> Identity | Unauthenticated:
        """What the API server says of a token.

        Raises:
            DiscoveryError: it says nothing.
        """
        status = await self._status(token)
        if not status.authenticated:
            return Unauthenticated(
                f"the API server does not accept the token for audience {self._audience}",
                reason="refused",
            )
        # An API server that knows no audiences leaves them out: its word then isn't enough.
        if self._audience not in (status.audiences or ()):
            return Unauthenticated(
                f"the token is not issued for audience {self._audience}", reason="audience"
            )
        identity = service_account(status.user.username)
        if identity is None:
            return Unauthenticated("the token is no ServiceAccount's", reason="refused")
        return replace(identity, expires_at=_expiry(token))

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()

    async def _status(self, token: str) -> _Status:
        try:
            return await self._ask(token)
        except (aiohttp.ClientError, OSError, ValueError) as error:  # no JSON is a ValueError
            raise DiscoveryError(f"{type(error).__name__}: {error}") from error

    async def _ask(self, token: str) -> _Status:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [self._audience]},
        }
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S), trust_env=False
            )
        for refused in (False, True):
            async with self._session.post(
                self._access.server + _PATH,
                json=body,
                headers=await self._access.headers(refused=refused),
                ssl=await self._access.tls(),
                proxy=self._access.proxy,
                server_hostname=self._access.tls_server_name,
                allow_redirects=False,
            ) as answer:
                if answer.status == _UNAUTHORIZED and not refused:
                    continue
                if answer.status == _FORBIDDEN:
                    raise NoRightError(
                        "the API server answered 403 to a TokenReview; trimtab's ServiceAccount "
                        "needs the verb create on tokenreviews.authentication.k8s.io: "
                        "{apiGroups: [authentication.k8s.io], resources: [tokenreviews], "
                        "verbs: [create]}"
                    )
                if answer.status not in _CREATED:
                    raise DiscoveryError(
                        f"the API server answered {answer.status} to a TokenReview"
                    )
                return msgspec.json.decode(await answer.read(), type=_Review).status
        raise DiscoveryError("the API server refuses trimtab's own credentials")


def _expiry(token: str) -> float | None:
    """When a token ends [Unix seconds], by its own words: the API server has verified them."""
    try:
        payload = token.split(".")[1]
        raw = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        return msgspec.json.decode(raw, type=_Claims).exp
    except (IndexError, binascii.Error, ValueError):
        return None
