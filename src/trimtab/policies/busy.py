"""Which judges have something to say: looked at for every request, and said only when it changes."""

from __future__ import annotations


class Busy:
    """See the module.

    Attributes:
        now: whether any judge has something to say.
    """

    __slots__ = ("_who", "now")

    def __init__(self) -> None:
        self._who: set[str] = set()
        self.now = False

    def tell(self, judge: str, busy: bool) -> None:
        """A judge begins to have something to say, or has no more."""
        if busy:
            self._who.add(judge)
        else:
            self._who.discard(judge)
        self.now = bool(self._who)
