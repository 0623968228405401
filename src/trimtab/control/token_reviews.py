"""Kubernetes ServiceAccount tokens, checked by the API server itself (TokenReview)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace

import aiohttp
import msgspec

from trimtab.control.authentication import Proof, Unauthenticated, bearer_token, token_hash
from trimtab.control.authorization import Identity, service_account
from trimtab.control.logs import printable
from trimtab.discovery.kubernetes.access import Access
from trimtab.errors import DiscoveryError

_LOG = logging.getLogger(__name__)

KEEP_S = 60.0  # how long a verdict is believed: as long may a deleted pod's token work
_KEEP_REFUSED_S = 5.0
_MAX_KEPT = 20_000
_AT_ONCE = 16  # reviews under way; the others wait
_TIMEOUT_S = 10.0
_PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
_CREATED = range(200, 300)
_UNAUTHORIZED, _FORBIDDEN = 401, 403
_AGAIN_S = 5.0
NOBODY = "no-token-but-a-question-whether-trimtab-may-ask"


class _NoRightError(DiscoveryError):
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


class TokenReviews:
    """Knows clients by bound ServiceAccount tokens.

    Args:
        access: the API server to ask.
        audience: what tokens must be issued for.
        clock: loop time [s].
    """

    def __init__(self, access: Access, audience: str, *, clock: Callable[[], float]) -> None:
        self._access = access
        self._audience = audience
        self._clock = clock
        self._known: dict[str, tuple[float, Identity | Unauthenticated]] = {}
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._session: aiohttp.ClientSession | None = None
        self._closed = asyncio.Event()
        self.missing = ""

    async def prepare(self) -> None:
        """See ``Authenticator``: asks about a token that is none, until there is a verdict.

        An API server that can't be reached is no missing right: clients are told what is known.
        """
        while not (self._closed.is_set() or await self._may_ask()):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN_S):
                    await self._closed.wait()

    async def _may_ask(self) -> bool:
        try:
            await self._ask(NOBODY)
        except _NoRightError as error:
            if not self.missing:
                _LOG.warning("no token can be checked: %s", printable(str(error), limit=500))
            self.missing = str(error)
            return False
        except (aiohttp.ClientError, OSError, DiscoveryError, msgspec.DecodeError):
            return False
        self.missing = ""
        return True

    async def identify(self, call: Proof) -> Identity:
        """See ``Authenticator``."""
        token = bearer_token(call)
        key = token_hash(token)
        async with self._places:
            until, verdict = self._known.get(key, (0.0, None))
            if verdict is None or until <= self._clock():
                verdict = await self._review(token)
                keep_s = KEEP_S if isinstance(verdict, Identity) else _KEEP_REFUSED_S
                if len(self._known) >= _MAX_KEPT:
                    del self._known[next(iter(self._known))]
                self._known[key] = (self._clock() + keep_s, verdict)
        if isinstance(verdict, Identity):
            return verdict
        raise Unauthenticated(str(verdict), reason=verdict.reason)

    async def close(self) -> None:
        """See ``Authenticator``."""
        self._closed.set()
        if self._session is not None:
            await self._session.close()

    async def _review(self, token: str) -> Identity | Unauthenticated:
        try:
            status = await self._ask(token)
        except (aiohttp.ClientError, OSError, DiscoveryError, msgspec.DecodeError) as error:
            _LOG.warning("a token could not be checked: %s", printable(str(error)))
            raise Unauthenticated(
                "the API server can't be asked about the token now; try again", reason="unavailable"
            ) from None
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
                    raise _NoRightError(
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
