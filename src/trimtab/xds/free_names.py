"""What is encoded under names that clients make up: as much as fits, and no name costs an encoding of endpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from google.protobuf.any_pb2 import Any

from trimtab.xds import wire_pb2 as wire
from trimtab.xds.resources import Resource, content_version

MOST_BYTES = 64 << 20
"""Kept for all clusters of a catalog."""

_OVERHEAD = 1024  # bytes beside the body: the name, up to 512 characters, stands in the key


class FreeNames:
    """The latest of it; for one catalog.

    Each is kept by the version of the same under the cluster's own name. So nothing is ever to be forgotten: what
    has changed is asked for by another version, and the oldest makes room.

    Attributes:
        used: by all that is kept [bytes].
    """

    __slots__ = ("_kept", "used")

    def __init__(self) -> None:
        self.used = 0
        self._kept: dict[tuple[str, str, str], Resource] = {}

    def get(self, name: str, own: Resource, make: Callable[[], Resource]) -> Resource:
        """A resource under a name that a client made up.

        Args:
            name: see above.
            own: the same under the cluster's own name.
            make: encodes it.
        """
        key = (own.type_url, name, own.version)
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = make()
            self.used += len(found.body) + _OVERHEAD
            while self.used > MOST_BYTES:
                oldest = self._kept.pop(next(iter(self._kept)))
                self.used -= len(oldest.body) + _OVERHEAD
        return found


def renamed(assignment: Resource, name: str) -> Resource:
    """A ClusterLoadAssignment under another name: its endpoints are copied, not encoded again."""
    value = Any.FromString(assignment.body)
    own, new = (
        wire.ClusterLoadAssignment(cluster_name=each).SerializeToString()
        for each in (assignment.name, name)
    )
    # Fields are written in the order of their numbers, and the name is the first.
    value.value = new + value.value.removeprefix(own)
    # The version has the Cluster's in it, as the assignment's under its own name has.
    version = content_version(name.encode(), assignment.version)
    return replace(assignment, name=name, version=version, body=value.SerializeToString())
