"""ClusterLoadAssignments to endpoints: what a control plane sent, checked.

What is wrong is refused with the field and the bad value. Rules: gRFC A27, and Envoy's for weights.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace

from trimtab.errors import ConfigError, ProtocolError
from trimtab.model import MAX_WEIGHT, Endpoint, Health, Locality, ZoneSplit
from trimtab.xds import type_urls
from trimtab.xds import wire_pb2 as wire
from trimtab.xds.parsing import own_metadata, parsed, text_of, whole_number

_HEALTH = {
    wire.LbEndpoint.UNKNOWN: Health.READY,
    wire.LbEndpoint.HEALTHY: Health.READY,
    wire.LbEndpoint.DRAINING: Health.DRAINING,
    # Envoy uses degraded endpoints where no healthy one is left, as we use draining ones.
    wire.LbEndpoint.DEGRADED: Health.DRAINING,
}
_MAX_PORT = 65535
_SCALE = 1000  # of weights that localities impose: the smallest endpoint gets this one


@dataclass(frozen=True, slots=True)
class Assignment:
    """The endpoints of a ClusterLoadAssignment, and what it says of zones."""

    name: str
    endpoints: tuple[Endpoint, ...]
    zones: ZoneSplit | None = None


class AssignmentDecoder:
    """Reads one cluster's ClusterLoadAssignments; endpoints that did not change are not read again.

    They stay the same objects, too, so that comparing snapshots is cheap.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, str, str, str, int], Endpoint] = {}

    def decode(self, body: bytes) -> Assignment:
        """Read a ClusterLoadAssignment's value.

        Raises:
            ProtocolError: naming the field.
        """
        message = parsed(wire.ClusterLoadAssignment, body)
        _check_priorities(message)
        known: dict[tuple[bytes, str, str, str, int], Endpoint] = {}
        groups: list[tuple[int, list[Endpoint]]] = []
        places: dict[tuple[str, int], str] = {}
        for index, locality in enumerate(message.endpoints):
            where = f"endpoints[{index}]"
            group = self._locality(locality, where, known)
            for number, endpoint in enumerate(group):
                place = f"{where}.lb_endpoints[{number}]"
                first = places.setdefault(endpoint.key, place)
                if first is not place:
                    raise ProtocolError(
                        f"{place}: {endpoint.target} is a duplicate of {first}; addresses are "
                        "unique in a cluster"
                    )
            groups.append((_locality_weight(locality, where), group))
        self._known = known
        return Assignment(message.cluster_name, _weighted(groups), _zones(message))

    def _locality(
        self,
        message: wire.LocalityLbEndpoints,
        where: str,
        known: dict[tuple[bytes, str, str, str, int], Endpoint],
    ) -> list[Endpoint]:
        locality = message.locality
        shared = Locality(locality.region, locality.zone, locality.sub_zone)
        priority = _true_priority(message)
        group: list[Endpoint] = []
        for number, raw in enumerate(message.lb_endpoints):
            key = (raw, shared.region, shared.zone, shared.sub_zone, priority)
            endpoint = self._known.get(key)
            if endpoint is None:
                place = f"{where}.lb_endpoints[{number}]"
                endpoint = _endpoint(raw, shared, priority, place)
            known[key] = endpoint
            group.append(endpoint)
        return group


def _check_priorities(message: wire.ClusterLoadAssignment) -> None:
    """Priorities start at 0 without gaps, and a locality stands once in each (gRFC A27)."""
    seen: set[tuple[int, str, str, str]] = set()
    for index, group in enumerate(message.endpoints):
        locality = group.locality
        key = (group.priority, locality.region, locality.zone, locality.sub_zone)
        if key in seen:
            raise ProtocolError(
                f"endpoints[{index}].locality: {locality.region}/{locality.zone}/"
                f"{locality.sub_zone} stands twice in priority {group.priority}"
            )
        seen.add(key)
    present = {key[0] for key in seen}
    for expected in range(len(present)):
        if expected not in present:
            raise ProtocolError(
                f"endpoints: priority {max(present)} is used but not {expected}; priorities must "
                "have no gaps"
            )


def _true_priority(message: wire.LocalityLbEndpoints) -> int:
    ours = message.metadata.filter_metadata
    if type_urls.METADATA in ours:
        value = ours[type_urls.METADATA].fields.get("priority")
        if value is not None:
            return max(whole_number(value, "locality metadata priority"), message.priority)
    return message.priority


def _zones(message: wire.ClusterLoadAssignment) -> ZoneSplit | None:
    """What our control plane says on each locality: the client's zone, and each zone's base."""
    client_zone, base = "", dict[str, float]()
    for index, group in enumerate(message.endpoints):
        facts = own_metadata(group.metadata)
        client_zone = text_of(facts, "client_zone") or client_zone
        value = facts.get("base")
        if value is None:
            continue
        share = value.number_value
        if not 0.0 <= share <= 1.0:
            raise ProtocolError(
                f"endpoints[{index}].metadata base: {share} is no part of the requests; give 0 to 1"
            )
        base[group.locality.zone] = share
    if sum(base.values()) <= 0.0:
        base = {}
    return ZoneSplit(client_zone, tuple(sorted(base.items()))) if client_zone or base else None


def _locality_weight(message: wire.LocalityLbEndpoints, where: str) -> int:
    """The locality's weight, 0 if it is not set."""
    if not message.HasField("load_balancing_weight"):
        return 0
    if message.load_balancing_weight.value == 0:
        raise ProtocolError(f"{where}.load_balancing_weight: 0; leave it unset or give at least 1")
    return message.load_balancing_weight.value


def _weighted(groups: list[tuple[int, list[Endpoint]]]) -> tuple[Endpoint, ...]:
    """All endpoints; their weights carry their localities' shares.

    A locality's weight is its share of the traffic, divided among its endpoints by theirs (Envoy,
    "locality weighted load balancing"). It usually is their sum, and then nothing is to be done.
    """
    by_priority: dict[int, list[tuple[int, list[Endpoint]]]] = {}
    for weight, group in groups:
        if group:
            by_priority.setdefault(group[0].priority, []).append((weight, group))
    result: list[Endpoint] = []
    for members in by_priority.values():
        sums = [(weight, sum(e.weight for e in group), group) for weight, group in members]
        plain = all(weight in (0, min(total, MAX_WEIGHT)) for weight, total, _ in sums)
        if plain or not all(weight for weight, _, _ in sums):
            result.extend(e for _, group in members for e in group)
            continue
        least = min(weight * e.weight / total for weight, total, group in sums for e in group)
        for weight, total, group in sums:
            for e in group:
                share = round(_SCALE * weight * e.weight / total / least)
                result.append(replace(e, weight=min(share, MAX_WEIGHT)))
    return tuple(result)


def _endpoint(raw: bytes, locality: Locality, priority: int, where: str) -> Endpoint:
    message = parsed(wire.LbEndpoint, raw)
    address, port = _address(message.endpoint.address, f"{where}.endpoint.address")
    more = [
        _address(a.address, f"{where}.endpoint.additional_addresses[{index}].address")[0]
        for index, a in enumerate(message.endpoint.additional_addresses)
    ]
    weight = 1
    if message.HasField("load_balancing_weight"):
        weight = message.load_balancing_weight.value
        if weight == 0:
            raise ProtocolError(
                f"{where}.load_balancing_weight: 0 of {address}:{port}; leave the endpoint out, or "
                "give at least 1"
            )
    facts = own_metadata(message.metadata)
    ready_since = facts.get("ready_since")
    labels = facts.get("labels")
    try:
        return Endpoint(
            address=address,
            port=port,
            locality=locality,
            node=text_of(facts, "node"),
            health=_HEALTH.get(message.health_status, Health.UNHEALTHY),
            weight=weight,
            priority=priority,
            ready_since=None if ready_since is None else ready_since.number_value,
            labels=()
            if labels is None
            else tuple(sorted((k, v.string_value) for k, v in labels.struct_value.fields.items())),
            additional_addresses=tuple(more),
            uid=text_of(facts, "uid"),
        )
    except ConfigError as error:
        raise ProtocolError(f"{where}: {error}") from error


def _address(message: wire.Address, where: str) -> tuple[str, int]:
    if not message.HasField("socket_address"):
        raise ProtocolError(f"{where}: not a socket_address; pipes and names are not supported")
    socket = message.socket_address
    if socket.protocol != wire.SocketAddress.TCP:
        raise ProtocolError(f"{where}.socket_address.protocol: {socket.protocol} is not TCP")
    try:
        ipaddress.ip_address(socket.address)
    except ValueError:
        raise ProtocolError(
            f"{where}.socket_address.address: {socket.address!r} is not an IP address"
        ) from None
    if not 1 <= socket.port_value <= _MAX_PORT:
        raise ProtocolError(
            f"{where}.socket_address.port_value: {socket.port_value} is not in 1-{_MAX_PORT}"
        )
    return socket.address, socket.port_value
