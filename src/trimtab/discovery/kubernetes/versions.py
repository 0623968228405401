"""Which version of which object was read, and from where on a watch reads. Pure.

Versions of one resource are numbers that grow (KEP-5504); where they are none, nothing is concluded.
"""

from __future__ import annotations

from trimtab.discovery.kubernetes.wire import Event, Key, number

_DELETIONS = 10_000  # that are remembered where no bookmarks come


class Versions:
    """The books of one list and watch.

    Attributes:
        reached: from where on a watch reads; "": list first.
        known: each object's version.
        deleted: the versions of objects deleted since the last list or bookmark, at most so many.
        bookmarks: whether a watch ever brought a bookmark.
    """

    def __init__(self) -> None:
        self.reached = ""
        self.known: dict[Key, str] = {}
        self.deleted: dict[Key, str] = {}
        self.bookmarks = False
        # All up to here was delivered by the last list or bookmark.
        self._floor: int | None = None

    def doubt(self) -> None:
        """What is known has to be listed anew."""
        self.reached = ""

    def list(self, version: str, seen: dict[Key, str]) -> list[Key]:
        """Take in a list; the objects that were known and are gone."""
        gone = [key for key in self.known if key not in seen]
        self.known = seen
        self._reach(version)
        return gone

    def take(self, event: Event) -> bool:
        """Take in an event. Whether it tells something of an object that was not known."""
        if event.type == "BOOKMARK":
            self.bookmarks = True
            if event.version:
                self._reach(event.version)
            return False
        key = event.key
        if key is None:
            return False
        # A server may delete under the version that it wrote last: that is no duplicate.
        last_words = event.type == "DELETED" and self.known.get(key) == event.version
        if event.version and not last_words and self._stale(key, event.version):
            return False
        if event.type == "DELETED":
            self.known.pop(key, None)
            self.deleted[key] = event.version
            if len(self.deleted) > _DELETIONS:
                del self.deleted[next(iter(self.deleted))]
        else:
            self.known[key] = event.version
            self.deleted.pop(key, None)
        there, reached = number(event.version), number(self.reached)
        if event.version and (there is None or reached is None or there > reached):
            self.reached = event.version
        return True

    def _stale(self, key: Key, version: str) -> bool:
        """Whether an event tells of a moment that is past already: a duplicate, or out of order."""
        at = number(version)
        if at is None:
            return False
        last = self.known.get(key, self.deleted.get(key, ""))
        if self._floor is not None and at <= self._floor:
            if version != last:
                # Not a duplicate of what is known, and yet of the time before the last list or
                # bookmark: the server's data went back, as after a restored backup.
                self.doubt()
            return True
        before = number(last)
        return before is not None and at <= before

    def _reach(self, version: str) -> None:
        self.reached = version
        self._floor = number(version)
        self.deleted.clear()
