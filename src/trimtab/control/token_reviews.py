"""Kubernetes ServiceAccount tokens, checked by the API server itself (TokenReview)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass

from trimtab.control.authentication import Proof, Unauthenticated, bearer_token, token_hash
from trimtab.control.authorization import Identity
from trimtab.control.logs import printable
from trimtab.control.review_places import ReviewPlaces
from trimtab.control.token_review_call import NoRightError, TokenReviewCall
from trimtab.control.verdicts import Verdicts
from trimtab.errors import DiscoveryError

_LOG = logging.getLogger(__name__)

_AGAIN_S = 5.0
_PATIENCE_S = 2.0  # how long a client that was good waits for the API server to say so again
_UNAVAILABLE = "unavailable"


@dataclass(slots=True)
class _UnderWay:
    """One review, for all calls that bring the same token."""

    task: asyncio.Task[Identity | Unauthenticated]
    waiting: int = 0


class TokenReviews:
    """Knows clients by bound ServiceAccount tokens.

    While the API server can't be asked, or does not answer in time, its last good verdict stands, until
    the token has ended by its own words.

    Args:
        call: asks the API server.
        verdicts: what is remembered.
        places: how much may be asked at once.
    """

    def __init__(self, call: TokenReviewCall, verdicts: Verdicts, places: ReviewPlaces) -> None:
        self._call = call
        self._verdicts = verdicts
        self._places = places
        self._under_way: dict[str, _UnderWay] = {}
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
            await self._call.may_ask()
        except NoRightError as error:
            if not self.missing:
                _LOG.warning("no token can be checked: %s", printable(str(error), limit=500))
            self.missing = str(error)
            return False
        except DiscoveryError:
            return False
        self.missing = ""
        return True

    async def identify(self, call: Proof) -> Identity:
        """See ``Authenticator``."""
        token = bearer_token(call)
        key = token_hash(token)
        verdict = self._verdicts.fresh(key)
        if verdict is None:
            # The peer's port is a new one for each connection.
            address = call.peer().rpartition(":")[0]
            verdict = await self._asked(key, token, address)
        if isinstance(verdict, Identity):
            return verdict
        raise Unauthenticated(str(verdict), reason=verdict.reason)

    async def close(self) -> None:
        """See ``Authenticator``."""
        self._closed.set()
        tasks = [review.task for review in self._under_way.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._call.close()

    async def _asked(self, key: str, token: str, address: str) -> Identity | Unauthenticated:
        """The API server's verdict, or the last good one where there is none in time."""
        was_good = self._verdicts.last_good(key) is not None
        full = self._places.full(address)
        verdict: Identity | Unauthenticated
        if full:
            # Or who fills the places would keep a revoked token good. Bounded by what was accepted.
            if was_good:
                self._begun(key, token, address)
            verdict = Unauthenticated(
                f"{full} streams wait to be identified already; try again", reason="pending"
            )
        else:
            verdict = await self._review_in_time(
                key, token, address, _PATIENCE_S if was_good else None
            )
        if isinstance(verdict, Unauthenticated) and verdict.reason in {_UNAVAILABLE, "pending"}:
            return self._verdicts.last_good(key) or verdict
        return verdict

    def _begun(self, key: str, token: str, address: str) -> _UnderWay:
        """The review of that token; begun here unless it is under way."""
        review = self._under_way.get(key)
        if review is None:
            review = _UnderWay(asyncio.create_task(self._review(key, token, address)))
            self._under_way[key] = review
        return review

    async def _review_in_time(
        self, key: str, token: str, address: str, patience_s: float | None
    ) -> Identity | Unauthenticated:
        review = self._begun(key, token, address)
        review.waiting += 1
        try:
            with self._places.call(address):
                async with asyncio.timeout(patience_s):
                    return await asyncio.shield(review.task)
        except TimeoutError:
            return _unavailable()
        finally:
            review.waiting -= 1
            # Who was good is asked about to the end, even if nobody waits: the token may be revoked.
            if not review.waiting and patience_s is None and not review.task.done():
                review.task.cancel()
                del self._under_way[key]

    async def _review(self, key: str, token: str, address: str) -> Identity | Unauthenticated:
        this = asyncio.current_task()
        try:
            async with self._places.review(address):
                verdict = await self._call.verdict(token)
        except DiscoveryError as error:
            _LOG.warning("a token could not be checked: %s", printable(str(error)))
            return _unavailable()
        else:
            self._verdicts.note(key, verdict)
            return verdict
        finally:
            review = self._under_way.get(key)
            if review is not None and review.task is this:
                del self._under_way[key]


def _unavailable() -> Unauthenticated:
    return Unauthenticated(
        "the API server can't be asked about the token now; try again", reason=_UNAVAILABLE
    )
