"""The endpoints of one cluster, merged from the slices of its Service. Pure.

Kept sorted and changed in place: one slice of a large service changes often, and must not cost a
walk over all the others. A *claim* is what one slice says of one address and port.

- Slices that claim the same address and port (an endpoint on its way from one slice to another):
  the claim of the higher rank counts.
- Dual stack: the addresses of a pod, one of each family, become one endpoint. Its pod is known by
  UID; without one, or with several addresses of a family, nothing says what belongs together, and
  each address stays an endpoint of its own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import replace
from operator import itemgetter

from trimtab.model import Endpoint

Key = tuple[str, int]  # address, port: Endpoint.key
Rank = tuple[int, float, str]
"""How much a claim counts: health, age of its slice [Unix seconds], name of its slice."""
Claim = tuple[Rank, Endpoint]

_rank = itemgetter(0)
_FEW = 8  # sorting anew beats single insertions from about an eighth of all on


class Merging:
    """The state of one cluster.

    Args:
        family: 4 or 6, whose address leads in a dual-stack endpoint.
    """

    def __init__(self, family: int) -> None:
        self._family = family
        self._claims: dict[Key, tuple[Claim, ...]] = {}
        self._best: dict[Key, Endpoint] = {}
        self._pods: dict[tuple[str, int], tuple[Key, ...]] = {}
        # The result, and the same as two lists in step, sorted by key, but for some keys.
        self._result: dict[Key, Endpoint] = {}
        self._unsorted: set[Key] = set()
        self._keys: list[Key] = []
        self._endpoints: list[Endpoint] = []

    def endpoints(self) -> tuple[Endpoint, ...]:
        """All endpoints, sorted by key, no key twice."""
        if len(self._unsorted) * _FEW > len(self._result):
            self._keys = sorted(self._result)
            self._endpoints = [self._result[key] for key in self._keys]
        else:
            for key in self._unsorted:
                self._sort(key)
        self._unsorted.clear()
        return tuple(self._endpoints)

    def change(self, old: Mapping[Key, Claim], new: Mapping[Key, Claim]) -> bool:
        """Replace one slice's claims. Whether that changed any endpoint."""
        changed = False
        for key in {**old, **new}:
            if old.get(key) is new.get(key):
                continue
            claims = self._claims.get(key, ())
            if key in old:
                claims = tuple(claim for claim in claims if claim is not old[key])
            if key in new:
                claims += (new[key],)
            if claims:
                self._claims[key] = claims
                best = claims[0] if len(claims) == 1 else max(claims, key=_rank)
                changed |= self._set_best(key, best[1])
            else:
                del self._claims[key]
                changed |= self._set_best(key, None)
        return changed

    def _set_best(self, key: Key, endpoint: Endpoint | None) -> bool:
        before = self._best.get(key)
        if endpoint is before or endpoint == before:
            return False
        if endpoint is None:
            del self._best[key]
        else:
            self._best[key] = endpoint
        left = (before.uid, before.port) if before is not None and before.uid else None
        entered = (endpoint.uid, endpoint.port) if endpoint is not None and endpoint.uid else None
        if left != entered:
            if left is not None:
                self._leave(left, key)
            if entered is not None:
                self._pods[entered] = (*self._pods.get(entered, ()), key)
        changed = self._place(key, endpoint) if entered is None else self._place_pod(entered)
        if left is not None and left != entered:
            changed |= self._place_pod(left)
        return changed

    def _leave(self, pod: tuple[str, int], key: Key) -> None:
        rest = tuple(k for k in self._pods[pod] if k != key)
        if rest:
            self._pods[pod] = rest
        else:
            del self._pods[pod]

    def _place_pod(self, pod: tuple[str, int]) -> bool:
        """Put a pod's addresses into the result: as one endpoint, or each for itself."""
        keys = self._pods.get(pod, ())
        joined = None
        if len(keys) == 2 and (":" in keys[0][0]) is not (":" in keys[1][0]):  # noqa: PLR2004 - one of each family
            joined, other = sorted(keys, key=lambda k: (":" in k[0]) is not (self._family == 6))  # noqa: PLR2004 - IPv6
            changed = self._place(other, None)
            both = replace(self._best[joined], additional_addresses=(other[0],))
            return self._place(joined, both) or changed
        changed = False
        for key in keys:
            changed |= self._place(key, self._best[key])
        return changed

    def _place(self, key: Key, endpoint: Endpoint | None) -> bool:
        if endpoint == self._result.get(key):
            return False
        if endpoint is None:
            del self._result[key]
        else:
            self._result[key] = endpoint
        self._unsorted.add(key)
        return True

    def _sort(self, key: Key) -> None:
        """Bring the sorted lists up to date for one key."""
        endpoint = self._result.get(key)
        i = bisect_left(self._keys, key)
        there = i < len(self._keys) and self._keys[i] == key
        if endpoint is None:
            if there:
                del self._keys[i], self._endpoints[i]
        elif there:
            self._endpoints[i] = endpoint
        else:
            self._keys.insert(i, key)
            self._endpoints.insert(i, endpoint)
