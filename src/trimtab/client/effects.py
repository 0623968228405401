"""What a ``Subscriber`` wants done; ``subscription.py`` does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from trimtab.client.bootstrap import Server
from trimtab.model import Snapshot

W = TypeVar("W")


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a stream to ``server``, with pings every ``keepalive_s``."""

    stream: int
    server: Server
    keepalive_s: float


@dataclass(frozen=True, slots=True)
class Send:
    """Write a request."""

    stream: int
    request: bytes


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close a stream; nothing it still says counts."""

    stream: int


@dataclass(frozen=True, slots=True)
class TakesLoads:
    """The control plane at the other end of a stream is one that takes load reports."""

    stream: int


@dataclass(frozen=True, slots=True)
class Update(Generic[W]):
    """Give a watcher a snapshot."""

    watcher: W
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Fail(Generic[W]):
    """Tell a watcher why it can't have a snapshot now."""

    watcher: W
    reason: str


@dataclass(frozen=True, slots=True)
class Log:
    """Say something to the operator; once per change, never per attempt."""

    level: int
    text: str


Effect = Connect | Send | Disconnect | TakesLoads | Update[W] | Fail[W] | Log
