"""What is left to tell of several changes: of each cluster its last state."""

from __future__ import annotations

from collections.abc import Iterable

from trimtab.model import Removed, Updated


def latest(
    changes: Iterable[Updated | Removed], into: dict[str, Updated | Removed] | None = None
) -> dict[str, Updated | Removed]:
    """The last change of each cluster, by its name.

    Args:
        changes: in order.
        into: earlier ones that were not told yet; they are replaced.
    """
    found = {} if into is None else into
    for change in changes:
        found[change.cluster if isinstance(change, Removed) else change.snapshot.cluster] = change
    return found
