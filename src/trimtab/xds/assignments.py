"""Snapshot to ClusterLoadAssignment, an endpoint at a time.

An endpoint's encoding is kept until the endpoint changes, and a message is its parts joined: after
one change of a thousand, one is encoded anew. Two views exist. *Full*, for trimtab clients, carries
every endpoint with its state, so that a Snapshot survives the trip unchanged. *Lean*, for Envoy and
native gRPC, carries what may be used now, in a form that both accept: gRPC ignores DRAINING
endpoints, needs a weight of at least 1 on each locality and rejects gaps between priorities and
repeated addresses (gRFC A27).
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from math import ceil

from google.protobuf.wrappers_pb2 import UInt32Value

from trimtab.model import MAX_WEIGHT, Endpoint, Health, Locality, PolicyConfig, Snapshot
from trimtab.xds import type_urls
from trimtab.xds import wire_pb2 as wire
from trimtab.xds.cluster_policy import Json
from trimtab.xds.resources import Resource, metadata, resource
from trimtab.xds.zone_views import Outlook

MAX_BODY = 3_400_000
"""Bytes of a ClusterLoadAssignment: with its frame it stays under 3.5 MB, and gRPC's limit is 4."""

_PARTS = 1_000_000  # a locality's weight is its share in so many parts, where there are shares
_ONLY_IF_NONE = 1_000_000  # percent: Envoy leaves a priority when one usable in 10,000 is left

_RING_POINTS = 65_536
"""Envoy's ring has a point for the smallest weight, so as many as that goes into the sum. Left alone it grows
to 8 million, which Envoy's main thread makes at every change."""

OVERHEAD = 512
"""Bytes for names and framing, and per locality."""


class View(enum.Enum):
    """What of a snapshot a client is sent."""

    FULL = "full"
    LEAN = "lean"


_HEALTH = {
    Health.READY: wire.LbEndpoint.HEALTHY,
    Health.DRAINING: wire.LbEndpoint.DRAINING,
    Health.UNHEALTHY: wire.LbEndpoint.UNHEALTHY,
}


class Fragments:
    """The encoded endpoints of one cluster in one view.

    Attributes:
        encoded: how many were not known, or no longer, so far.
    """

    def __init__(self, view: View) -> None:
        self.encoded = 0
        self._view = view
        self._known: dict[tuple[str, int], tuple[Endpoint, int, bytes]] = {}

    def of(self, endpoint: Endpoint, weight: int) -> bytes:
        """An encoded LbEndpoint, from memory if neither the endpoint nor its weight changed."""
        key = (endpoint.address, endpoint.port)
        known = self._known.get(key)
        if known is not None and known[1] == weight:
            # Most endpoints are the very objects of the last snapshot: no comparison by fields.
            if known[0] is endpoint:
                return known[2]
            if known[0] == endpoint:
                self._known[key] = (endpoint, weight, known[2])
                return known[2]
        self.encoded += 1
        body = _lb_endpoint(endpoint, weight, self._view).SerializeToString(deterministic=True)
        self._known[key] = (endpoint, weight, body)
        return body

    def __len__(self) -> int:
        return len(self._known)

    def keep_only(self, endpoints: Collection[Endpoint]) -> None:
        """Forget endpoints that left, once they outnumber those that stayed."""
        if len(self._known) > 2 * len(endpoints):
            kept = {(e.address, e.port) for e in endpoints}
            self._known = {key: known for key, known in self._known.items() if key in kept}


def endpoints_of(snapshot: Snapshot, view: View) -> Sequence[Endpoint]:
    """What a view shows of a snapshot."""
    return snapshot.endpoints if view is View.FULL else snapshot.usable()


def assignment_resource(
    name: str,
    snapshot: Snapshot,
    fragments: Fragments,
    view: View,
    *,
    salt: str,
    endpoints: Sequence[Endpoint] | None = None,
    outlook: Outlook | None = None,
) -> Resource:
    """The ClusterLoadAssignment of a snapshot, under the name that was asked for.

    Args:
        name: of the resource.
        snapshot: whose endpoints.
        fragments: what was encoded before, of the same cluster and view.
        view: see the module.
        salt: the Cluster's version, which becomes part of this one's: Envoy waits 15 s for
            endpoints after a Cluster has changed, so they must count as changed as well.
        endpoints: a part of the view's endpoints, for a cluster above ``MAX_BODY``.
        outlook: what it is to say of zones; None: nothing.
    """
    whole = endpoints_of(snapshot, view)
    shown = whole if endpoints is None else endpoints
    if view is View.LEAN:
        shown = _each_address_once(shown)
    message = wire.ClusterLoadAssignment(cluster_name=name)
    groups = _grouped(shown)
    if view is View.LEAN and outlook is not None and outlook.strict:
        groups = {(int(at.zone != outlook.zone), at): group for (_, at), group in groups.items()}
        message.policy.overprovisioning_factor.value = _ONLY_IF_NONE
    priorities = sorted({priority for priority, _ in groups})
    sent = shown_weights(whole, snapshot.policy, view)  # as they were prepared
    parts = _parts(groups, outlook) if view is View.LEAN and outlook else {}
    for (priority, locality), members in sorted(groups.items()):
        weights = [sent.get(e.weight, e.weight) for e in members]
        weight = parts.get(locality) or min(sum(weights), MAX_WEIGHT)
        message.endpoints.append(
            wire.LocalityLbEndpoints(
                locality=wire.Locality(
                    region=locality.region, zone=locality.zone, sub_zone=locality.sub_zone
                ),
                lb_endpoints=[
                    fragments.of(e, weight) for e, weight in zip(members, weights, strict=True)
                ],
                load_balancing_weight=UInt32Value(value=weight),
                priority=priorities.index(priority),
                metadata=_locality_facts(priority, priorities.index(priority), locality, outlook)
                if view is View.FULL
                else None,
            )
        )
    fragments.keep_only(whole)  # other clients' parts too
    return resource(type_urls.EDS, name, message, salt=salt, view=view.value)


def _each_address_once(endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
    """Without second addresses that another endpoint has as well: gRPC refuses all of them (A27).

    The fold sees to that within a source; here two sources may meet.
    """
    if not any(e.additional_addresses for e in endpoints):
        return endpoints
    seen = {e.key for e in endpoints}
    shown: list[Endpoint] = []
    for endpoint in endpoints:
        kept: list[str] = []
        for address in endpoint.additional_addresses:
            if (address, endpoint.port) not in seen:
                seen.add((address, endpoint.port))
                kept.append(address)
        same = len(kept) == len(endpoint.additional_addresses)
        shown.append(endpoint if same else replace(endpoint, additional_addresses=tuple(kept)))
    return shown


def _grouped(endpoints: Iterable[Endpoint]) -> dict[tuple[int, Locality], list[Endpoint]]:
    groups: dict[tuple[int, Locality], list[Endpoint]] = {}
    for endpoint in endpoints:
        groups.setdefault((endpoint.priority, endpoint.locality), []).append(endpoint)
    return groups


def shown_weights(
    endpoints: Sequence[Endpoint], policy: PolicyConfig | None, view: View
) -> dict[int, int]:
    """What stands for each weight, where they can't be sent as they are.

    Larger ones where a ring would have many more than ``_RING_POINTS`` points; smaller ones where
    the sum would not fit into 32 bits, which gRPC and Envoy refuse.
    """
    if view is View.FULL:
        return {}
    total = sum(e.weight for e in endpoints)
    least = ceil(total / _RING_POINTS) if policy and policy.name == "ring_hash" else 1
    if least == 1 and total <= MAX_WEIGHT:
        return {}
    weights = {e.weight: max(e.weight, least) for e in endpoints}
    total = sum(weights[e.weight] for e in endpoints)
    if total <= MAX_WEIGHT:
        return weights
    room = MAX_WEIGHT - len(endpoints)
    return {asked: max(1, weight * room // total) for asked, weight in weights.items()}


def _parts(
    groups: dict[tuple[int, Locality], list[Endpoint]], outlook: Outlook
) -> dict[Locality, int]:
    """The weights of localities that make their zones' shares; within a zone by capacity."""
    if outlook.shares is None:
        return {}
    zones: dict[str, int] = {}
    for (_, locality), members in groups.items():
        zones[locality.zone] = zones.get(locality.zone, 0) + sum(e.weight for e in members)
    return {
        locality: max(
            1,
            round(
                outlook.shares.get(locality.zone, 0.0)
                * _PARTS
                * sum(e.weight for e in members)
                / zones[locality.zone]
            ),
        )
        for (_, locality), members in groups.items()
    }


def _locality_facts(
    priority: int, shown: int, locality: Locality, outlook: Outlook | None
) -> wire.Metadata | None:
    """What only trimtab clients read of a locality; see docs/architecture.md, "Zones"."""
    facts: dict[str, Json] = {}
    if priority != shown:
        # The field can't say it, since priorities must be dense there.
        facts["priority"] = float(priority)
    if outlook is not None:
        facts["client_zone"] = outlook.zone
        if outlook.shares is not None:
            facts["base"] = outlook.shares.get(locality.zone, 0.0)
    return metadata(facts) if facts else None


def _lb_endpoint(endpoint: Endpoint, weight: int, view: View) -> wire.LbEndpoint:
    full = view is View.FULL
    return wire.LbEndpoint(
        endpoint=wire.Endpoint(
            address=_address(endpoint.address, endpoint.port),
            additional_addresses=[
                wire.Endpoint.AdditionalAddress(address=_address(a, endpoint.port))
                for a in endpoint.additional_addresses
            ],
        ),
        # Unset is UNKNOWN, which Envoy and gRPC use like HEALTHY: the lean view holds no other.
        health_status=_HEALTH[endpoint.health] if full else None,
        load_balancing_weight=UInt32Value(value=weight),
        metadata=_facts(endpoint) if full else None,
    )


def _address(address: str, port: int) -> wire.Address:
    return wire.Address(socket_address=wire.SocketAddress(address=address, port_value=port))


def _facts(endpoint: Endpoint) -> wire.Metadata | None:
    facts: dict[str, Json] = {}
    if endpoint.node:
        facts["node"] = endpoint.node
    if endpoint.uid:
        facts["uid"] = endpoint.uid
    if endpoint.ready_since is not None:
        facts["ready_since"] = endpoint.ready_since
    if endpoint.labels:
        facts["labels"] = dict(endpoint.labels)
    return metadata(facts) if facts else None
