"""Where snapshots come from.

A *source* is an async iterator of ``Updated(snapshot) | Removed(cluster) | Synced``. It yields a
cluster's whole state each time, ``Synced`` once everything that existed at its start has been
delivered, and never "empty" for "unknown": what it can't read it reports as a ``Problem`` and
leaves as it was. ``DiscoveryError`` ends it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from trimtab.model import Problem, SourceEvent

ReportProblem = Callable[[Problem], None]


class Source(Protocol):
    """Anything that discovers endpoints."""

    def events(self) -> AsyncIterator[SourceEvent]:
        """Yield changes for ever; raise ``DiscoveryError`` if there can be no more."""
