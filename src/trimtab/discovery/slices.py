"""Services and EndpointSlices folded into snapshots. Pure: events in, changes out.

A slice is not the service: all slices that carry its name are joined, per Service port and by port
name. A Service without slices is an empty cluster; a slice whose Service is not there yields
nothing and is kept for when it comes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from trimtab.discovery import ReportProblem
from trimtab.discovery.addresses import FAMILIES, NO_RULES, AddressRules
from trimtab.discovery.kube_objects import SERVICE_LABEL, EndpointSlice, KubeObject, Service, short
from trimtab.discovery.merging import Merging
from trimtab.discovery.service_terms import Terms, read_terms
from trimtab.discovery.slice_reading import NO_CLAIMS, Key, Slice, SliceReader
from trimtab.model import Problem, Removed, ServicePort, Snapshot, Synced, Updated


class _Cluster:
    """One Service port with its endpoints."""

    __slots__ = ("merging", "port", "snapshot")

    def __init__(self, port: ServicePort, family: int) -> None:
        self.port = port
        self.merging = Merging(family)
        self.snapshot: Snapshot | None = None


class SliceFold:
    """The state of one source.

    ``synced`` says whether the source has delivered all that it began with. Until then a Service
    that was not mentioned is unknown, and a slice without its Service no problem.

    Args:
        report: hears of every rejected part.
        rules: which addresses may be endpoints.
        region: put into each endpoint's locality.
    """

    def __init__(
        self, report: ReportProblem, *, rules: AddressRules = NO_RULES, region: str = ""
    ) -> None:
        self.synced = False
        self._report = report
        self._reader = SliceReader(report, rules, region)
        self._services: dict[Key, Terms] = {}
        self._clusters: dict[Key, dict[int, _Cluster]] = {}
        self._slices: dict[Key, Slice] = {}
        self._by_service: dict[Key, dict[Key, Slice]] = {}

    def apply(self, obj: KubeObject) -> list[Updated | Removed]:
        """An object was added or changed; what follows for its clusters."""
        key = (obj.metadata.namespace, obj.metadata.name)
        if isinstance(obj, Service):
            terms = read_terms(obj, self._report)
            if self._services.get(key) == terms:
                return []
            self._services[key] = terms
            return self._rebuild(key, terms)
        before = self._slices.get(key)
        return self._replace(before, self._reader.read(key, obj, before))

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

    def losses(self, kind: type[KubeObject], keys: Iterable[Key]) -> dict[Key, tuple[Key, int]]:
        """Of these Services or slices, those of known Services: whose, and how many endpoints go with them."""
        if kind is Service:
            return {key: (key, self.size(key)) for key in keys if key in self._services}
        slices = (self._slices[key] for key in keys if key in self._slices)
        return {s.key: (s.service, len(s)) for s in slices if s.service in self._services}

    def slices_of(self, service: Key) -> tuple[Key, ...]:
        """The slices that carry a Service's name, whether it is there or not."""
        return tuple(self._by_service.get(service, ()))

    def size(self, service: Key) -> int:
        """How many endpoints all slices of a Service have."""
        return sum(map(len, self._by_service.get(service, {}).values()))

    def all_endpoints(self) -> int:
        """How many endpoints all slices of known Services have."""
        return sum(map(self.size, self._services))

    def changed_by(self, listed: Iterable[object], services: Collection[Key]) -> set[Key]:
        """Those of the Services that have a new slice among the listed objects, or one with fewer endpoints."""
        found = set()
        for obj in listed:
            if not isinstance(obj, EndpointSlice) or obj.addressType not in FAMILIES:
                continue
            service = (obj.metadata.namespace, obj.metadata.label(SERVICE_LABEL))
            if service not in services:
                continue
            known = self._by_service.get(service, {}).get(
                (obj.metadata.namespace, obj.metadata.name)
            )
            if known is None or len(obj.endpoints or ()) < len(known):
                found.add(service)
        return found

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

    def _replace(self, old: Slice | None, new: Slice | None) -> list[Updated | Removed]:
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
                lost = gained = NO_CLAIMS
                if before is not None:
                    lost = before.claims(name, publish_not_ready=publish)
                if after is not None:
                    gained = after.claims(name, publish_not_ready=publish, before=lost)
                if cluster.merging.change(lost, gained):
                    events.append(_updated(cluster, terms))
        return events

    def _rebuild(self, key: Key, terms: Terms) -> list[Updated | Removed]:
        """Make a Service's clusters anew; only those that come out different are told of."""
        before = self._clusters.get(key, {})
        after = self._clusters[key] = {p.port: _Cluster(p, terms.family) for p in terms.ports}
        events: list[Updated | Removed] = []
        for number, cluster in after.items():
            for kept in self._by_service.get(key, {}).values():
                cluster.merging.change(
                    NO_CLAIMS,
                    kept.claims(cluster.port.port_name, publish_not_ready=terms.publish_not_ready),
                )
            event = _updated(cluster, terms)
            if number not in before or before[number].snapshot != event.snapshot:
                events.append(event)
        events.extend(
            Removed(gone.port.cluster) for number, gone in before.items() if number not in after
        )
        return events


def _updated(cluster: _Cluster, terms: Terms) -> Updated:
    cluster.snapshot = Snapshot.presorted(
        cluster.port.cluster, cluster.merging.endpoints(), terms.policy, cluster.port
    )
    return Updated(cluster.snapshot)
