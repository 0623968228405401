"""Where snapshots come from.

A *source* is an async iterator of ``Updated(snapshot) | Removed(cluster) | Synced``. It yields a
cluster's whole state each time, ``Synced`` once everything that existed at its start has been
delivered, and never "empty" for "unknown": what it can't read it reports as a ``Problem`` and
leaves as it was. ``DiscoveryError`` ends it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from trimtab.model import Problem, SourceEvent

ReportProblem = Callable[[Problem], None]


@dataclass(frozen=True, slots=True)
class Contact:
    """How a source stands with what it reads.

    Attributes:
        heard: when it was last confirmed that what is known is current [s, loop time]; None: never.
        failing_since: since when it can't read [s, loop time]; None: all is well.
        reason: why it can't, with the fix; "" if all is well.
    """

    heard: float | None = None
    failing_since: float | None = None
    reason: str = ""


class Source(Protocol):
    """Anything that discovers endpoints."""

    def contact(self) -> Contact | None:
        """How it stands with what it reads; None if there is nothing that it could lose."""

    def events(self) -> AsyncIterator[SourceEvent]:
        """Yield changes for ever; raise ``DiscoveryError`` if there can be no more."""
