"""What is remembered of tokens: by their hashes, never the tokens. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import msgspec

from trimtab.control.authentication import Unauthenticated
from trimtab.control.authorization import Identity, service_account

KEEP_S = 60.0  # how long a verdict is believed unasked: as long may a deleted pod's token work
KEEP_REFUSED_S = 5.0
_MAX_ACCEPTED = 20_000
_MAX_REFUSED = 2_000


class SavedVerdict(msgspec.Struct, frozen=True):
    """A token that the API server has accepted, for the next life.

    Attributes:
        sha256: of the token.
        subject: whose it is.
        expires_at: when it ends by its own words [Unix seconds].
    """

    sha256: str
    subject: str
    expires_at: float


class Verdicts:
    """The last verdicts. What strangers send takes no place from what was accepted.

    Args:
        clock: loop time [s].
        wall: the wall clock [Unix seconds], which tokens end by.

    Attributes:
        revision: grows when there is something else to save.
    """

    def __init__(self, *, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self.revision = 0
        self._clock = clock
        self._wall = wall
        self._accepted: dict[str, tuple[float, Identity]] = {}
        self._refused: dict[str, tuple[float, Unauthenticated]] = {}

    def fresh(self, key: str) -> Identity | Unauthenticated | None:
        """The verdict on the token with that hash, if it is so young that nobody need be asked."""
        for kept in (self._accepted, self._refused):
            until, verdict = kept.get(key, (0.0, None))
            if verdict is not None and self._clock() < until:
                return verdict
        return None

    def last_good(self, key: str) -> Identity | None:
        """Whose the token was by the last verdict; None if it has ended by its own words.

        A token that names no end is not believed longer than a fresh verdict is.
        """
        _, identity = self._accepted.get(key, (0.0, None))
        if identity is None or identity.expires_at is None:
            return None
        return identity if self._wall() < identity.expires_at else None

    def note(self, key: str, verdict: Identity | Unauthenticated) -> None:
        """The API server has said this of the token with that hash."""
        _, before = self._accepted.pop(key, (0.0, None))
        self._refused.pop(key, None)
        now = self._clock()
        if isinstance(verdict, Identity):
            _make_room(self._accepted, _MAX_ACCEPTED)
            self._accepted[key] = (now + KEEP_S, verdict)
            self.revision += verdict != before
        else:
            _make_room(self._refused, _MAX_REFUSED)
            self._refused[key] = (now + KEEP_REFUSED_S, verdict)
            self.revision += before is not None

    def saved(self) -> list[SavedVerdict]:
        """What was accepted and has not ended, the latest verdict last."""
        return [
            SavedVerdict(key, identity.subject, identity.expires_at)
            for key, (_, identity) in self._accepted.items()
            if identity.expires_at is not None and self._wall() < identity.expires_at
        ]

    def restore(self, saved: Iterable[SavedVerdict]) -> None:
        """Begin with what an earlier life knew: last good verdicts, none of them fresh."""
        for one in list(saved)[-_MAX_ACCEPTED:]:
            identity = service_account(one.subject)
            if identity is not None:
                kept = replace(identity, expires_at=one.expires_at)
                self._accepted[one.sha256] = (self._clock(), kept)


def _make_room(
    kept: dict[str, tuple[float, Identity]] | dict[str, tuple[float, Unauthenticated]], most: int
) -> None:
    if len(kept) >= most:
        del kept[next(iter(kept))]
