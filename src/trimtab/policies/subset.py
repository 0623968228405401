"""Which endpoints of a large cluster one client uses, so that not everybody connects to everybody.

With an index, of the parameters or from the control plane (``client.seats``): client i of n takes ``size`` endpoints in a row, from
    i * len(endpoints) / n on, around the list. In that list zones take turns in proportion to their size (endpoint k
    of m in its zone stands at (k + 1/2) / m), so that each client has its part of every zone: addresses often go by zone,
    and a row of those would lie in one. Each endpoint is used by n * size / len(endpoints) clients, give or take one.
Without: rendezvous hashing with a number that the client drew once; when one endpoint comes or goes, at
    most one of the subset changes.
Sources: Google SRE book, chapter 20, and Finagle's deterministic aperture; gRFC A68 for rendezvous.
Weakness: with an index, a client more or less moves everybody's subset by up to its size; random subsets are uneven (one endpoint may have twice the clients of another), which load
reports make up for and blind policies don't; a subset much smaller than 20 loses choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from trimtab.errors import ConfigError
from trimtab.model import Endpoint
from trimtab.policies.params import Params, Reader

NAMES = ("subset_size", "subset_index", "subset_count")


@dataclass(frozen=True, slots=True)
class Subset:
    """How a client chooses its endpoints.

    Attributes:
        size: endpoints to use, 1 and above.
        index: which client this is, from 0; -1: it doesn't know.
        count: clients there are.
    """

    size: int
    index: int = -1
    count: int = 0

    @classmethod
    def read(cls, policy: str, params: Params) -> Subset | None:
        """From parameters; None: all endpoints are used.

        Raises:
            ConfigError: one is out of range.
        """
        read = Reader(policy, {k: v for k, v in params.items() if k in NAMES})
        size = read.whole("subset_size", 0, 0, 100_000)
        index = read.whole("subset_index", -1, -1, 10_000_000)
        count = read.whole("subset_count", 0, 0, 10_000_000)
        if index >= max(count, 0) and index >= 0:
            raise ConfigError(
                f"policy {policy}: parameter subset_index={index} is not below "
                f"subset_count={count}; clients count from 0"
            )
        return cls(size, index, count) if size else None

    def of(
        self, endpoints: Sequence[Endpoint], client: int, seat: tuple[int, int] | None = None
    ) -> tuple[Endpoint, ...]:
        """The endpoints to use, in their order.

        Args:
            endpoints: sorted by key, as in a snapshot.
            client: the client's own number, for rendezvous.
            seat: which client of how many it is, where that is known and no parameter says so.
        """
        n = len(endpoints)
        if n <= self.size:
            return tuple(endpoints)
        index, count = (self.index, self.count) if self.index >= 0 else seat or (-1, 0)
        if index >= 0:
            start = index * n // count
            row = _in_turns(endpoints)
            keys = {row[(start + i) % n].key for i in range(self.size)}
            return tuple(e for e in endpoints if e.key in keys)
        ranked = sorted(endpoints, key=lambda e: _rank(e, client))[: self.size]
        keys = {e.key for e in ranked}
        return tuple(e for e in endpoints if e.key in keys)


def _in_turns(endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    zones: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        zones.setdefault(endpoint.locality.zone, []).append(endpoint)
    if len(zones) == 1:
        return list(endpoints)
    places = [
        ((k + 0.5) / len(zone), name, endpoint)
        for name, zone in zones.items()
        for k, endpoint in enumerate(zone)
    ]
    return [endpoint for _, _, endpoint in sorted(places, key=lambda place: place[:2])]


def _rank(endpoint: Endpoint, client: int) -> bytes:
    return blake2b(endpoint.target.encode(), digest_size=8, salt=client.to_bytes(8, "big")).digest()
