"""Services and EndpointSlices folded into snapshots. Pure: events in, changes out.

A slice is not the service: all slices that carry its name are joined, per Service port and by port
name. A Service without slices is an empty cluster; a slice whose Service is not there yields
nothing and is kept for when it comes.

Conditions (discovery.k8s.io/v1 types.go): ``ready`` nil is true, ``serving`` nil is ``ready``,
``terminating`` nil is false.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from trimtab.discovery import ReportProblem
from trimtab.discovery.kube_objects import (
    CHANGED_ANNOTATION,
    SERVICE_LABEL,
    EndpointSlice,
    KubeObject,
    PortSpec,
    Service,
    SliceEndpoint,
    describe,
)
from trimtab.discovery.service_annotations import policy_of
from trimtab.model import (
    Endpoint,
    Health,
    Locality,
    PolicyConfig,
    Problem,
    Removed,
    ServicePort,
    Snapshot,
    Updated,
)

Key = tuple[str, str]  # namespace, name
_FAMILIES = {"IPv4": 4, "IPv6": 6}
_MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One endpoint of one slice, before ports: what the service's other slices compete with."""

    address: str
    endpoint: SliceEndpoint
    health: Health
    uid: str
    rank: tuple[bool, str, str]  # ready first, then the newest slice, then its name


@dataclass(slots=True)
class _Slice:
    """A slice as the fold keeps it: candidates parsed once, endpoints made once per port."""

    service: Key
    family: int
    ports: dict[str, PortSpec]
    candidates: tuple[_Candidate, ...]
    made: dict[tuple[int, bool], tuple[tuple[_Candidate, Endpoint], ...]] = field(
        default_factory=dict
    )

    def endpoints(
        self, port: int, *, publish_not_ready: bool
    ) -> tuple[tuple[_Candidate, Endpoint], ...]:
        """Its endpoints at a port; cached, since other slices of the service change as well."""
        found = self.made.get((port, publish_not_ready))
        if found is None:
            found = tuple(
                (c, _endpoint(c, port, Health.READY if publish_not_ready else c.health))
                for c in self.candidates
            )
            self.made[port, publish_not_ready] = found
        return found


class SliceFold:
    """The state of one source.

    Args:
        report: hears of every rejected part.
        allow_loopback: whether 127.0.0.0/8 and ::1 may be endpoints (local development).
    """

    def __init__(self, report: ReportProblem, *, allow_loopback: bool = False) -> None:
        self._report = report
        self._allow_loopback = allow_loopback
        self._services: dict[Key, Service] = {}
        self._slices: dict[Key, _Slice] = {}
        self._by_service: dict[Key, dict[Key, _Slice]] = {}
        self._current: dict[Key, dict[str, Snapshot]] = {}

    def apply(self, obj: KubeObject) -> list[Updated | Removed]:
        """An object was added or changed."""
        key = (obj.metadata.namespace, obj.metadata.name)
        if isinstance(obj, Service):
            self._services[key] = obj
            return self._recompute(key)
        old = self._drop_slice(key)
        new = self._keep_slice(key, obj)
        touched = dict.fromkeys(s for s in (old, new) if s is not None)
        return [event for service in touched for event in self._recompute(service)]

    def delete(self, kind: type[KubeObject], namespace: str, name: str) -> list[Updated | Removed]:
        """An object was deleted. Of what was never there nothing follows."""
        key = (namespace, name)
        if kind is Service:
            return self._recompute(key) if self._services.pop(key, None) else []
        touched = self._drop_slice(key)
        return self._recompute(touched) if touched else []

    def orphans(self) -> Iterator[tuple[Key, Key]]:
        """Slices whose Service is not there: slice, service."""
        for key, kept in self._slices.items():
            if kept.service not in self._services:
                yield key, kept.service

    def _drop_slice(self, key: Key) -> Key | None:
        old = self._slices.pop(key, None)
        if old is None:
            return None
        siblings = self._by_service[old.service]
        del siblings[key]
        if not siblings:
            del self._by_service[old.service]
        return old.service

    def _keep_slice(self, key: Key, obj: EndpointSlice) -> Key | None:
        where = describe("EndpointSlice", obj.metadata)
        name = (obj.metadata.labels or {}).get(SERVICE_LABEL)
        if not name:
            return None  # a slice of nobody's: legal, and of no use here
        family = _FAMILIES.get(obj.addressType or "")
        if family is None:
            self._problem(
                where,
                "addressType",
                repr(obj.addressType),
                "only IPv4 and IPv6 slices are used; names in FQDN slices are never resolved, "
                "since whoever may write a slice could point clients anywhere",
            )
            return None
        kept = _Slice(
            service=(obj.metadata.namespace, name),
            family=family,
            ports=dict(self._ports(where, obj)),
            candidates=tuple(self._candidates(where, obj, family)),
        )
        self._slices[key] = kept
        self._by_service.setdefault(kept.service, {})[key] = kept
        return kept.service

    def _ports(self, where: str, obj: EndpointSlice) -> Iterator[tuple[str, PortSpec]]:
        for i, port in enumerate(obj.ports or []):
            if (port.protocol or "TCP") != "TCP":
                continue
            if port.port is None:
                continue  # "all ports" (types.go): nothing that a client could connect to
            if not 1 <= port.port <= _MAX_PORT:
                self._problem(where, f"ports[{i}].port", str(port.port), "give 1 to 65535")
                continue
            yield port.name or "", port

    def _candidates(self, where: str, obj: EndpointSlice, family: int) -> Iterator[_Candidate]:
        annotations = obj.metadata.annotations or {}
        stamp = annotations.get(CHANGED_ANNOTATION) or obj.metadata.creationTimestamp or ""
        for i, endpoint in enumerate(obj.endpoints or []):
            health = _health(endpoint)
            for text in endpoint.addresses or []:
                try:
                    address = self._address(text, family)
                except ValueError as error:
                    self._problem(where, f"endpoints[{i}].addresses", repr(text), str(error))
                    continue
                uid = (endpoint.targetRef.uid or "") if endpoint.targetRef else ""
                yield _Candidate(
                    address,
                    endpoint,
                    health,
                    uid,
                    (health is Health.READY, stamp, obj.metadata.name),
                )

    def _address(self, text: str, family: int) -> str:
        address = ipaddress.ip_address(text)
        mapped = getattr(address, "ipv4_mapped", None)
        if mapped is not None:
            address = mapped
        elif address.version != family:
            raise ValueError(f"this is IPv{address.version}, the slice says IPv{family}")
        if address.is_loopback and self._allow_loopback:
            return str(address)
        for refused, kind in (
            (address.is_loopback, "loopback"),
            (address.is_link_local, "link-local"),
            (address.is_multicast, "multicast"),
            (address.is_unspecified, "unspecified"),
        ):
            if refused:
                raise ValueError(f"a {kind} address is refused; give the pod's own address")
        return str(address)

    def _recompute(self, key: Key) -> list[Updated | Removed]:
        service = self._services.get(key)
        before = self._current.get(key, {})
        after = {s.cluster: s for s in self._snapshots(key, service)} if service else {}
        events: list[Updated | Removed] = [
            Updated(snapshot)
            for cluster, snapshot in after.items()
            if before.get(cluster) != snapshot
        ]
        events.extend(Removed(cluster) for cluster in before if cluster not in after)
        if after:
            self._current[key] = after
        else:
            self._current.pop(key, None)
        return events

    def _snapshots(self, key: Key, service: Service) -> Iterator[Snapshot]:
        where = describe("Service", service.metadata)
        spec = service.spec
        if spec.type == "ExternalName":
            self._problem(
                where,
                "spec.type",
                "'ExternalName'",
                "it has no endpoints to choose from; use its DNS name in the client",
            )
            return
        policy = policy_of(service, self._report)
        seen: set[int] = set()
        for i, port in enumerate(spec.ports or []):
            if (port.protocol or "TCP") != "TCP":
                continue
            if port.port is None or not 1 <= port.port <= _MAX_PORT:
                self._problem(where, f"spec.ports[{i}].port", str(port.port), "give 1 to 65535")
                continue
            if port.port in seen:
                self._problem(
                    where,
                    f"spec.ports[{i}].port",
                    str(port.port),
                    "the port stands twice; remove one",
                )
                continue
            seen.add(port.port)
            yield self._snapshot(key, service, port, policy)

    def _snapshot(
        self, key: Key, service: Service, port: PortSpec, policy: PolicyConfig | None
    ) -> Snapshot:
        name = port.name or ""
        publish = bool(service.spec.publishNotReadyAddresses)
        best: dict[tuple[str, int], tuple[_Candidate, Endpoint]] = {}
        families: set[int] = set()
        protocol = port.appProtocol or ""
        for kept in self._by_service.get(key, {}).values():
            at = kept.ports.get(name)
            if at is None or at.port is None:
                continue
            families.add(kept.family)
            protocol = protocol or at.appProtocol or ""
            for item in kept.endpoints(at.port, publish_not_ready=publish):
                known = best.get(item[1].key)
                if known is None or item[0].rank > known[0].rank:
                    best[item[1].key] = item
        if len(families) > 1:
            first = 6 if (service.spec.ipFamilies or ["IPv4"])[0] == "IPv6" else 4
            endpoints = _joined(best.values(), first)
        else:
            endpoints = tuple(endpoint for _, endpoint in best.values())
        assert port.port is not None  # noqa: S101 - checked by the caller
        identity = ServicePort(key[1], key[0], port.port, name, protocol)
        return Snapshot(identity.cluster, endpoints, policy, identity)

    def _problem(self, where: str, path: str, value: str, fix: str) -> None:
        self._report(Problem(where, path, value, fix))


def _health(endpoint: SliceEndpoint) -> Health:
    conditions = endpoint.conditions
    if conditions is None:
        return Health.READY
    ready = conditions.ready is None or conditions.ready
    serving = ready if conditions.serving is None else conditions.serving
    if ready and not conditions.terminating:
        return Health.READY
    if serving and conditions.terminating:
        return Health.DRAINING
    return Health.UNHEALTHY


def _endpoint(candidate: _Candidate, port: int, health: Health) -> Endpoint:
    source = candidate.endpoint
    return Endpoint(
        candidate.address,
        port,
        locality=Locality(zone=source.zone or ""),
        node=source.nodeName or "",
        health=health,
        uid=candidate.uid,
    )


def _joined(items: Iterable[tuple[_Candidate, Endpoint]], first: int) -> tuple[Endpoint, ...]:
    """One endpoint per pod: the address of the Service's first family leads, others come along.

    Without a pod's UID nothing says which addresses belong together, so each stays by itself.
    """
    alone: list[Endpoint] = []
    pods: dict[tuple[str, int], list[Endpoint]] = {}
    for candidate, endpoint in items:
        if candidate.uid:
            pods.setdefault((candidate.uid, endpoint.port), []).append(endpoint)
        else:
            alone.append(endpoint)
    for group in pods.values():
        group.sort(key=lambda e: ((":" in e.address) is not (first == 6), e.address))  # noqa: PLR2004
        rest = tuple(e.address for e in group[1:])
        alone.append(replace(group[0], additional_addresses=rest) if rest else group[0])
    return tuple(alone)
