"""Responses that many streams share, byte for byte.

A change reaches a thousand streams as the same resource. Encoding and copying a response costs several
times what the rest of a session's work for it costs, so a response of one resource is made once, nonce
included. Nonces are numbers that only grow, drawn from one sequence for all streams, and a stream takes
a shared response only if its number is above all that the stream has used: so no nonce comes twice on
a stream, whatever content comes again.
"""

from __future__ import annotations

from trimtab.xds import wire_pb2 as wire
from trimtab.xds.resources import Resource

_KEPT = 128
_LARGEST_KEPT = 64 << 10  # bytes; so at most 8 MiB are held in all


class Responses:
    """The responses that were made lately."""

    def __init__(self) -> None:
        self._number = 0
        self._made: dict[tuple[str, str, str, bool], tuple[int, Resource, bytes]] = {}

    def next_number(self) -> int:
        """A number that no response has yet."""
        self._number += 1
        return self._number

    def of_one(self, resource: Resource, *, above: int, delta: bool) -> tuple[int, bytes]:
        """A response with one resource and nothing else.

        Args:
            resource: what it tells.
            above: the highest number that the stream has used.
            delta: a ``DeltaDiscoveryResponse`` instead of a ``DiscoveryResponse``.

        Returns:
            Its number, which as ``nonce_of`` is its nonce, and its encoding.
        """
        key = (resource.type_url, resource.name, resource.view, delta)
        made = self._made.get(key)
        if made is not None and made[0] > above and made[1] is resource:
            return made[0], made[2]
        number = self.next_number()
        message = _encoded(resource, nonce_of(number), delta=delta)
        if len(message) <= _LARGEST_KEPT:
            if key not in self._made and len(self._made) >= _KEPT:
                del self._made[next(iter(self._made))]
            self._made[key] = number, resource, message
        return number, message


def nonce_of(number: int) -> str:
    """A response's nonce, by its number."""
    return format(number, "x")


def number_of(nonce: str) -> int:
    """The number of a response of ours: later ones of a stream have greater ones."""
    return int(nonce, 16)


def _encoded(resource: Resource, nonce: str, *, delta: bool) -> bytes:
    if delta:
        return wire.DeltaDiscoveryResponse(
            resources=[
                wire.Resource(name=resource.name, version=resource.version, resource=resource.body)
            ],
            type_url=resource.type_url,
            nonce=nonce,
        ).SerializeToString()
    return wire.DiscoveryResponse(
        version_info=resource.version,
        resources=[resource.body],
        type_url=resource.type_url,
        nonce=nonce,
    ).SerializeToString()
