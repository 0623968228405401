"""One name of one stream's subscription, and a response that waits for its answer."""

from __future__ import annotations

from typing import NamedTuple

from trimtab.xds.resources import Resource
from trimtab.xds.response_bytes import number_of

_MAX_ERROR = 2000  # characters of a NACK's text
_MAX_REFUSED = 8  # versions of one resource: content that goes to and fro is not sent again


class Entry:
    """One name of a subscription."""

    __slots__ = (
        "acked",
        "alone",
        "asked",
        "cluster",
        "due",
        "error",
        "explicit",
        "good",
        "name",
        "real",
        "refused",
        "resumed",
        "sent",
        "since",
        "told",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.cluster: str | None = None  # the canonical one that it means at present
        self.explicit = False  # asked by name, not only by a wildcard
        self.sent = ""  # version sent last; "" if the client has nothing
        self.acked = ""  # version accepted last
        self.since: float | None = None  # when its answer began to be what it is [s, loop time]
        self.refused: tuple[str, ...] = ()  # versions that were NACKed, the latest first
        self.error = ""  # the NACK's text
        self.good: Resource | None = None  # accepted last, where responses carry the full set
        self.due = True  # must be answered, whatever the client has
        self.real = False  # a resource was sent under this name, not just its absence
        self.told = False  # the absence was told
        self.resumed = False  # the client brought a version of it from an earlier stream
        self.alone = False  # a NACK concerned it: it goes in a response of its own
        self.asked = ""  # nonce of the last response before it was asked for again

    def resume(self, version: str) -> None:
        """The client has this version from an earlier stream."""
        self.sent = self.acked = version
        self.resumed = True
        self.due = False

    def accept(self, version: str, now: float) -> None:
        """The client uses this version."""
        if self.acked != version or self.error or self.since is None:
            self.since = now
        self.acked = version

    def refuse(self, version: str, text: str, now: float) -> None:
        """The client won't use this version."""
        if not self.error:
            self.since = now
        self.refused = (version, *self.refused)[:_MAX_REFUSED]
        self.error = text[-_MAX_ERROR:]

    def asked_since(self, nonce: str) -> bool:
        """Whether it was asked for again after that response: the next answer counts, not that one's."""
        return bool(self.asked) and number_of(nonce) <= number_of(self.asked)

    def gone(self) -> None:
        """The client has been told that there is nothing."""
        self.sent = self.acked = ""
        self.since = None
        self.good = None
        self.due = False


class Sent(NamedTuple):
    """A response without an answer yet.

    Attributes:
        version: the response's.
        resources: what of it the client had not accepted before, by version. The resource itself only where responses
            carry the full set: a client may leave many unanswered, and endpoints are much.
        removed: the names whose end it told.
    """

    version: str
    resources: tuple[tuple[Entry, str, Resource | None], ...]
    removed: tuple[str, ...]
