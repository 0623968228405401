"""What a fork copied: its threads and connections are the parent's, its locks may be held for ever."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol

FORKED = (
    "this channel was made before the process forked, and its connections belong to the parent: make it "
    "in the child (gunicorn: in post_fork or at the first request, not under --preload)"
)


class Copied(Protocol):
    """Something that a forked child must not use as it is."""

    def forked(self) -> None:
        """This process is the child. No lock may be taken, nothing of gRPC touched."""


_made: weakref.WeakSet[Copied] = weakref.WeakSet()
_kept: list[Copied] = []


def watch_forks(copied: Copied) -> None:
    """Have ``copied.forked`` called in every forked child while it is there, and not in their children."""
    _made.add(copied)


def hold_across_forks(lock: threading.Lock) -> None:
    """Fork when nobody else has this lock of the module's: in the child its holder would be gone, and never let go."""
    os.register_at_fork(
        before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
    )


def _in_child() -> None:
    made = list(_made)
    _made.clear()  # before: what the child goes on using has itself called in its own children
    for copied in made:
        _kept.append(copied)  # no finaliser may touch what belongs to the parent
        copied.forked()


os.register_at_fork(after_in_child=_in_child)
