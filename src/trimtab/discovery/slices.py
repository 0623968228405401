"""Services and EndpointSlices folded into snapshots. Pure: events in, changes out.

A slice is not the service: all slices that carry its name are joined, per Service port and by port
name. A Service without slices is an empty cluster; a slice whose Service is not there yields
nothing and is kept for when it comes.

Conditions (discovery.k8s.io/v1 types.go): ``ready`` nil is true, ``serving`` nil is true,
``terminating`` nil is false. ``publishNotReadyAddresses`` overrules readiness, not termination: a
pod that is going away gets nothing new from us while there is another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from trimtab.discovery import ReportProblem
from trimtab.discovery.addresses import FAMILIES, endpoint_address
from trimtab.discovery.kube_objects import (
    CHANGED_ANNOTATION,
    SERVICE_LABEL,
    Conditions,
    EndpointSlice,
    KubeObject,
    Metadata,
    Service,
    ServiceSpec,
    SliceEndpoint,
    describe,
    short,
)
from trimtab.discovery.merging import Claim, Merging
from trimtab.discovery.merging import Key as Address
from trimtab.discovery.service_annotations import exported_to, policy_of
from trimtab.model import (
    Endpoint,
    Health,
    Locality,
    PolicyConfig,
    Problem,
    Removed,
    ServicePort,
    Snapshot,
    Synced,
    Updated,
)

Key = tuple[str, str]  # namespace, name
_MAX_PORT = 65535
_HEALTH_RANK = {Health.UNHEALTHY: 0, Health.DRAINING: 1, Health.READY: 2}
_NO_CLAIMS: Mapping[Address, Claim] = {}
_NO_CONDITIONS = Conditions()


@dataclass(frozen=True, slots=True)
class _Terms:
    """What a Service says of its clusters."""

    ports: tuple[ServicePort, ...]
    publish_not_ready: bool
    family: int  # whose address leads in a dual-stack endpoint
    policy: PolicyConfig | None


class _Cluster:
    """One Service port with its endpoints."""

    __slots__ = ("merging", "port", "snapshot")

    def __init__(self, port: ServicePort, family: int) -> None:
        self.port = port
        self.merging = Merging(family)
        self.snapshot: Snapshot | None = None


class _Slice:
    """A slice, read once; its claims are made once per port."""

    __slots__ = ("_claims", "endpoints", "key", "ports", "service", "stamp")

    def __init__(self, key: Key, service: Key, stamp: float) -> None:
        self.key = key
        self.service = service
        self.stamp = stamp
        self.ports: dict[str, int] = {}
        self.endpoints: list[tuple[str, Locality, SliceEndpoint]] = []
        self._claims: dict[tuple[int, bool], Mapping[Address, Claim]] = {}

    def claims(
        self,
        port_name: str,
        *,
        publish_not_ready: bool,
        before: Mapping[Address, Claim] = _NO_CLAIMS,
    ) -> Mapping[Address, Claim]:
        """What it says of each address at the port of that name.

        Args:
            port_name: a Service port's name.
            publish_not_ready: what the Service says of that.
            before: the claims of the slice that this one replaces, whose endpoints are used again
                where they are the same: to make one costs more than all the rest.
        """
        port = self.ports.get(port_name)
        if port is None:
            return _NO_CLAIMS
        found = self._claims.get((port, publish_not_ready))
        if found is None:
            found = self._made(port, publish_not_ready, before)
            self._claims[port, publish_not_ready] = found
        return found

    def _made(
        self, port: int, publish_not_ready: bool, before: Mapping[Address, Claim]
    ) -> Mapping[Address, Claim]:
        found: dict[Address, Claim] = {}
        for address, locality, source in self.endpoints:
            state = health(source.conditions or _NO_CONDITIONS, publish_not_ready=publish_not_ready)
            rank = (_HEALTH_RANK[state], self.stamp, self.key[1])
            key = (address, port)
            known = found.get(key)
            if known is not None and rank <= known[0]:
                continue
            uid = (source.targetRef.uid if source.targetRef else None) or ""
            node = source.nodeName or ""
            same = before.get(key)
            if same is not None:
                was = same[1]  # equal in all that is set below, so the very same value
                if (was.health, was.uid, was.node, was.locality) == (state, uid, node, locality):
                    found[key] = (rank, was)
                    continue
            found[key] = (rank, Endpoint(address, port, locality, node, state, uid=uid))
        return found


class SliceFold:
    """The state of one source.

    ``synced`` says whether the source has delivered all that it began with. Until then a Service
    that was not mentioned is unknown, and a slice without its Service no problem.

    Args:
        report: hears of every rejected part.
        allow_loopback: whether 127.0.0.0/8 and ::1 may be endpoints (local development).
        region: put into each endpoint's locality.
    """

    def __init__(
        self, report: ReportProblem, *, allow_loopback: bool = False, region: str = ""
    ) -> None:
        self.synced = False
        self._report = report
        self._allow_loopback = allow_loopback
        self._region = region
        self._services: dict[Key, _Terms] = {}
        self._clusters: dict[Key, dict[int, _Cluster]] = {}
        self._slices: dict[Key, _Slice] = {}
        self._by_service: dict[Key, dict[Key, _Slice]] = {}
        self._localities: dict[str, Locality] = {}

    def apply(self, obj: KubeObject) -> list[Updated | Removed]:
        """An object was added or changed; what follows for its clusters."""
        key = (obj.metadata.namespace, obj.metadata.name)
        if isinstance(obj, Service):
            terms = self._terms(obj)
            if self._services.get(key) == terms:
                return []
            self._services[key] = terms
            return self._rebuild(key, terms)
        return self._replace(self._slices.get(key), self._read(key, obj))

    def delete(self, kind: type[KubeObject], namespace: str, name: str) -> list[Updated | Removed]:
        """An object was deleted. Of what was never there nothing follows."""
        key = (namespace, name)
        if kind is Service:
            if self._services.pop(key, None) is None:
                return []
            return [Removed(c.port.cluster) for c in self._clusters.pop(key).values()]
        return self._replace(self._slices.get(key), None)

    def sync(self) -> Synced:
        """Everything that existed at the source's start has been applied."""
        self.synced = True
        return Synced()

    def clusters(self) -> Iterator[Snapshot]:
        """The clusters as they are now."""
        for clusters in self._clusters.values():
            for cluster in clusters.values():
                if cluster.snapshot is not None:
                    yield cluster.snapshot

    def loose_ends(self) -> Iterator[Problem]:
        """What fits to nothing: slices without their Service, slice ports that no Service port has.

        Each may be mended by an object that is still to come, so ask when all was applied.
        """
        for kept in self._slices.values():
            where = f"EndpointSlice {kept.key[0]}/{kept.key[1]}"
            namespace, name = kept.service
            terms = self._services.get(kept.service)
            if terms is None:
                yield Problem(
                    where,
                    f"metadata.labels[{SERVICE_LABEL}]",
                    short(name),
                    f"there is no Service {namespace}/{name}; its endpoints are used once there is",
                )
                continue
            names = [port.port_name for port in terms.ports]
            for port_name in kept.ports:
                if port_name not in names:
                    yield Problem(
                        where,
                        "ports",
                        short(port_name),
                        f"Service {namespace}/{name} has no TCP port of that name, so it is not "
                        f"used; its port names: {', '.join(map(repr, names)) or 'none'}",
                    )

    def _replace(self, old: _Slice | None, new: _Slice | None) -> list[Updated | Removed]:
        """Put one slice in the place of another, each of which may be None.

        In one step: an endpoint that stays is never absent, whatever else changes.
        """
        if old is not None:
            del self._slices[old.key]
            siblings = self._by_service[old.service]
            del siblings[old.key]
            if not siblings:
                del self._by_service[old.service]
        if new is not None:
            self._slices[new.key] = new
            self._by_service.setdefault(new.service, {})[new.key] = new
        events: list[Updated | Removed] = []
        for key in dict.fromkeys(s.service for s in (old, new) if s is not None):
            terms = self._services.get(key)
            if terms is None:
                continue
            publish = terms.publish_not_ready
            before = old if old is not None and old.service == key else None
            after = new if new is not None and new.service == key else None
            for cluster in self._clusters[key].values():
                name = cluster.port.port_name
                lost = gained = _NO_CLAIMS
                if before is not None:
                    lost = before.claims(name, publish_not_ready=publish)
                if after is not None:
                    gained = after.claims(name, publish_not_ready=publish, before=lost)
                if cluster.merging.change(lost, gained):
                    events.append(_updated(cluster, terms))
        return events

    def _rebuild(self, key: Key, terms: _Terms) -> list[Updated | Removed]:
        """Make a Service's clusters anew; only those that come out different are told of."""
        before = self._clusters.get(key, {})
        after = self._clusters[key] = {p.port: _Cluster(p, terms.family) for p in terms.ports}
        events: list[Updated | Removed] = []
        for number, cluster in after.items():
            for kept in self._by_service.get(key, {}).values():
                cluster.merging.change(
                    _NO_CLAIMS,
                    kept.claims(cluster.port.port_name, publish_not_ready=terms.publish_not_ready),
                )
            event = _updated(cluster, terms)
            if number not in before or before[number].snapshot != event.snapshot:
                events.append(event)
        events.extend(
            Removed(gone.port.cluster) for number, gone in before.items() if number not in after
        )
        return events

    def _read(self, key: Key, obj: EndpointSlice) -> _Slice | None:
        where = describe("EndpointSlice", obj.metadata)
        service = obj.metadata.label(SERVICE_LABEL)
        if not service:
            return None  # a slice of nobody's: legal, and of no use here
        family = FAMILIES.get(obj.addressType or "")
        if family is None:
            self._problem(
                where,
                "addressType",
                obj.addressType,
                "only IPv4 and IPv6 slices are used; names in FQDN slices are never resolved, "
                "since whoever may write a slice could point clients anywhere",
            )
            return None
        kept = _Slice(key, (key[0], service), _stamp(obj.metadata))
        self._read_ports(where, obj, kept)
        for i, endpoint in enumerate(obj.endpoints or ()):
            self._read_endpoint(where, i, endpoint, family, kept)
        return kept

    def _read_ports(self, where: str, obj: EndpointSlice, kept: _Slice) -> None:
        for i, port in enumerate(obj.ports or ()):
            if (port.protocol or "TCP") != "TCP":
                continue
            if port.port is None:
                self._problem(
                    where,
                    f"ports[{i}].port",
                    None,
                    "it means all ports, and a client needs one; give its number",
                )
            elif not 1 <= port.port <= _MAX_PORT:
                self._problem(where, f"ports[{i}].port", port.port, "give 1 to 65535")
            elif (port.name or "") in kept.ports:
                self._problem(
                    where,
                    f"ports[{i}].name",
                    port.name or "",
                    "another port has this name and is used; names are unique in a slice",
                )
            else:
                kept.ports[port.name or ""] = port.port

    def _read_endpoint(
        self, where: str, i: int, endpoint: SliceEndpoint, family: int, kept: _Slice
    ) -> None:
        addresses = endpoint.addresses or []
        path = f"endpoints[{i}].addresses"
        if len(addresses) != 1:
            # types.go: nothing is defined for further addresses, and kube-proxy passes them over.
            self._problem(
                where,
                path,
                addresses,
                "only the first is used; give each pod an endpoint of its own"
                if addresses
                else "give the pod's address",
            )
        if not addresses:
            return
        try:
            address = endpoint_address(addresses[0], family, allow_loopback=self._allow_loopback)
        except ValueError as error:
            self._problem(where, f"{path}[0]", addresses[0], str(error))
            return
        zone = endpoint.zone or ""
        locality = self._localities.get(zone)
        if locality is None:
            locality = self._localities[zone] = Locality(self._region, zone)
        kept.endpoints.append((address, locality, endpoint))

    def _terms(self, service: Service) -> _Terms:
        spec = service.spec or ServiceSpec()
        if spec.type == "ExternalName":
            self._problem(
                describe("Service", service.metadata),
                "spec.type",
                spec.type,
                "it has no endpoints to choose from; use its DNS name in the client",
            )
            return _Terms((), publish_not_ready=False, family=4, policy=None)
        return _Terms(
            tuple(self._service_ports(service, spec)),
            publish_not_ready=bool(spec.publishNotReadyAddresses),
            family=6 if (spec.ipFamilies or ["IPv4"])[0] == "IPv6" else 4,
            policy=policy_of(service, self._report),
        )

    def _service_ports(self, service: Service, spec: ServiceSpec) -> Iterator[ServicePort]:
        where = describe("Service", service.metadata)
        exported = exported_to(service, self._report)
        seen: set[int] = set()
        for i, port in enumerate(spec.ports or ()):
            if (port.protocol or "TCP") != "TCP":
                continue
            if port.port is None or not 1 <= port.port <= _MAX_PORT:
                self._problem(where, f"spec.ports[{i}].port", port.port, "give 1 to 65535")
            elif port.port in seen:
                self._problem(
                    where, f"spec.ports[{i}].port", port.port, "it stands twice; remove one"
                )
            else:
                seen.add(port.port)
                yield ServicePort(
                    service.metadata.name,
                    service.metadata.namespace,
                    port.port,
                    port.name or "",
                    port.appProtocol or "",
                    exported,
                )

    def _problem(self, where: str, path: str, value: object, fix: str) -> None:
        self._report(Problem(where, path, short(value), fix))


def health(conditions: Conditions, *, publish_not_ready: bool = False) -> Health:
    """An endpoint's state from its conditions; see the module."""
    ready = conditions.ready is not False or publish_not_ready
    serving = conditions.serving is not False or publish_not_ready
    if not conditions.terminating:
        return Health.READY if ready else Health.UNHEALTHY
    return Health.DRAINING if serving else Health.UNHEALTHY


def _updated(cluster: _Cluster, terms: _Terms) -> Updated:
    cluster.snapshot = Snapshot.presorted(
        cluster.port.cluster, cluster.merging.endpoints(), terms.policy, cluster.port
    )
    return Updated(cluster.snapshot)


def _stamp(metadata: Metadata) -> float:
    """When the slice last changed [Unix seconds], 0 if it does not say."""
    text = metadata.annotation(CHANGED_ANNOTATION) or metadata.creationTimestamp or ""
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return 0.0
