"""What there is, encoded once: the state that all streams of a control plane share.

Nothing may be answered before ``synced``: a cluster that no source has mentioned yet is unknown,
which is not empty, and an empty answer takes a service down at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

from trimtab.model import Removed, ServicePort, Snapshot, SourceEvent, Synced
from trimtab.xds import type_urls
from trimtab.xds.cluster_views import ClusterViews, SubsetBytes
from trimtab.xds.free_names import FreeNames
from trimtab.xds.names import Alias, NameTable, missing_among
from trimtab.xds.resources import (
    Resource,
    missing_assignment_resource,
    missing_listener_resource,
    missing_route_resource,
)
from trimtab.xds.response_bytes import Responses
from trimtab.xds.server_client import Audience, Client, ClientKind
from trimtab.xds.zone_views import ServiceName, Surroundings

__all__ = ["Audience", "Catalog", "Client", "ClientKind", "Resource"]

_MAX_DEPARTED = 10_000  # deleted clusters that are remembered
_MAX_MISSING = 10_000  # answers for unknown names that are kept, about 600 B each
_MAX_RESOLVED = 100_000  # names are chosen by clients, so what is remembered of them is bounded
_NODE = "gRPC Node"  # how gRPC for Node begins its user_agent_name


_HELPED = frozenset(
    {
        (type_urls.LDS, ClientKind.GRPC),
        (type_urls.EDS, ClientKind.ENVOY),
        (type_urls.RDS, ClientKind.ENVOY),
    }
)


class Catalog:
    """The clusters, under all their names, as resources.

    Attributes:
        synced: whether anything may be answered.
        complete: whether every source has delivered all that existed when it began. Until then a
            name that nothing answers to is unknown, not absent, and is not answered at all.
        generation: counts the clusters that came or went, so that names are resolved again.
        responses: what the streams share of their responses.
        kept_subsets: how much is kept of very large clusters.
        free_names: what is kept under names that clients make up.
    """

    def __init__(self, aliases: Iterable[Alias] = (), *, load_reports: bool = False) -> None:
        self._load_reports = load_reports  # native gRPC shall report its load
        self.synced = False
        self.complete = False
        self.generation = 0
        self.names = NameTable(aliases)
        self.responses = Responses()
        self.kept_subsets = SubsetBytes()
        self.free_names = FreeNames()
        self._clusters: dict[str, ClusterViews] = {}
        self._large: set[str] = set()
        self._snapshots: dict[str, Snapshot] = {}
        self._surroundings = Surroundings(self._snapshots)
        self._departed = NameTable(aliases)
        self._departures: dict[
            str, ServicePort | None
        ] = {}  # ordered: the oldest is forgotten first
        self._resolved: dict[tuple[str, str], str] = {}
        self._missing: dict[tuple[str, str, bool], Resource] = {}

    def apply(self, event: SourceEvent) -> frozenset[str]:
        """Take in what a source says; return the clusters of which somebody's view changed."""
        if isinstance(event, Synced):
            self.synced = self.complete = True
            return frozenset()
        if isinstance(event, Removed):
            return self._remove(event.cluster)
        return self._update(event.snapshot)

    def answer_incomplete(self) -> None:
        """Answer for what is known, though a source is missing still."""
        self.synced = True

    def __contains__(self, cluster: str) -> bool:
        return cluster in self._clusters

    @property
    def offered(self) -> int:
        """No wildcard gets more names than this."""
        return len(self._clusters) + self.names.aliases

    def clusters(self) -> Mapping[str, Snapshot]:
        """The latest snapshot of each cluster, by canonical name."""
        return MappingProxyType(self._snapshots)

    def get(self, type_url: str, name: str, client: Client) -> Resource | None:
        """A resource under exactly the name asked for; None if nothing is known by it.

        It is encoded once per type, name and view, until the cluster changes.
        """
        cluster = self.concerns(type_url, name, client)
        return None if cluster is None else self.get_of(cluster, type_url, name, client)

    def get_of(self, cluster: str, type_url: str, name: str, client: Client) -> Resource | None:
        """As ``get``, for a name whose cluster is known already."""
        known = self._clusters.get(cluster)
        return None if known is None else known.get(type_url, name, client, self._surroundings)

    def is_prepared(self, cluster: str | None, name: str, client: Client) -> bool:
        """Whether ``get_of`` has an assignment at once, as far as its cluster's size goes."""
        if cluster is None or cluster not in self._large:
            return True
        return self._clusters[cluster].made(name, client, self._surroundings)

    def prepare(self, cluster: str | None, client: Client) -> bool:
        """Do a bounded part of what an assignment of a cluster needs. Whether that was the last."""
        return (
            cluster is None
            or cluster not in self._large
            or self._clusters[cluster].prepare(client.view)
        )

    @property
    def any_large(self) -> bool:
        """Whether any cluster is so large that its assignments are prepared."""
        return bool(self._large)

    def ready_pods(self, service: ServiceName) -> Mapping[str, int]:
        """A Service's ready pods by zone, as clients of others; empty if there are none."""
        return self._surroundings.pods(service)

    def missing(self, type_url: str, name: str, client: Client) -> Resource | None:
        """What to send in place of a resource that never existed, if anything helps."""
        if (type_url, client.kind) not in _HELPED:
            return None
        routeless = client.user_agent.startswith(_NODE)
        found = self._missing.get((type_url, name, routeless))
        if found is None:
            if len(self._missing) >= _MAX_MISSING:
                self._missing.clear()
            if type_url == type_urls.EDS:
                found = missing_assignment_resource(name)
            elif type_url == type_urls.RDS:
                found = missing_route_resource(name)
            else:
                found = missing_listener_resource(name, routeless=routeless)
            self._missing[type_url, name, routeless] = found
        return found

    def reauthorize(self) -> None:
        """What audiences answer has changed: names are resolved again."""
        self.generation += 1

    def wildcard(self, type_url: str, client: Client) -> tuple[str, ...]:
        """The names that a wildcard subscription gets: all clusters and aliases; no Listeners."""
        return tuple(
            name
            for cluster in self._clusters
            for name in self.wildcard_of(type_url, cluster, client)
        )

    def wildcard_of(self, type_url: str, cluster: str | None, client: Client) -> tuple[str, ...]:
        """The names under which a wildcard subscription gets one cluster."""
        if type_url != type_urls.CDS or cluster is None or not self._visible(cluster, client):
            return ()
        return self.names.names_of(cluster)

    def concerns(self, type_url: str, name: str, client: Client) -> str | None:  # noqa: ARG002 - every type has the same names today
        """The canonical cluster behind a name, None if there is none that the client may see."""
        key = (name, client.namespace)
        cluster = self._resolved.get(key)
        if cluster is None:
            cluster = self.names.resolve(name, client.namespace)
            if cluster is not None:
                if len(self._resolved) >= _MAX_RESOLVED:
                    self._resolved.clear()
                self._resolved[key] = cluster
        return cluster if cluster is not None and self._visible(cluster, client) else None

    def _visible(self, cluster: str, client: Client) -> bool:
        snapshot = self._snapshots.get(cluster)
        if snapshot is None:
            return False
        return client.audience is None or client.audience.sees(snapshot.service)

    def was_deleted(self, name: str, client: Client) -> bool:
        """Whether the name meant a cluster that this process knew and saw deleted."""
        cluster = self._departed.resolve(name, client.namespace)
        if cluster is None or client.audience is None:
            return cluster is not None
        return client.audience.sees(self._departures.get(cluster))

    def missing_text(self, name: str, client: Client, *, near: bool) -> str:
        """Say that nothing answers to a name, for people; ``near`` adds similar names."""
        if client.audience is not None:
            # Not a word of what it may not see, be it the port of a Service or a similar name.
            seen = (c for c in self._clusters if self._visible(c, client)) if near else ()
            text = missing_among(name, seen)
        else:
            text = self.names.missing_text(name, client.namespace, near=near)
        if self.was_deleted(name, client):
            return f"{name} was deleted; {text}"
        return text

    def _update(self, snapshot: Snapshot) -> frozenset[str]:
        cluster = snapshot.cluster
        known = self._clusters.get(cluster)
        if known is None:
            self._clusters[cluster] = ClusterViews(
                snapshot,
                load_reports=self._load_reports,
                kept=self.kept_subsets,
                free_names=self.free_names,
            )
            self._departed.remove(cluster)
            self._departures.pop(cluster, None)
            _name(self.names, snapshot)
            self._renamed()
        elif known.snapshot == snapshot:
            return frozenset()
        else:
            if known.snapshot.service != snapshot.service:
                _name(self.names, snapshot)
                self._renamed()
            known.replace(snapshot)
        if self._clusters[cluster].is_large:
            self._large.add(cluster)
        else:
            self._large.discard(cluster)
        return self._surround(cluster, snapshot)

    def _remove(self, cluster: str) -> frozenset[str]:
        views = self._clusters.pop(cluster, None)
        if views is None:
            return frozenset()
        views.forget_subsets()
        self._large.discard(cluster)
        snapshot = self._snapshots.pop(cluster)
        _name(self._departed, snapshot)
        self._departures[cluster] = snapshot.service
        if len(self._departures) > _MAX_DEPARTED:
            oldest = next(iter(self._departures))
            del self._departures[oldest]
            self._departed.remove(oldest)
        self.names.remove(cluster)
        self._renamed()
        touched = self._surroundings.changed(cluster, snapshot, None)
        return self._told(cluster, touched)

    def _surround(self, cluster: str, snapshot: Snapshot) -> frozenset[str]:
        old = self._snapshots.get(cluster)
        self._snapshots[cluster] = snapshot
        return self._told(cluster, self._surroundings.changed(cluster, old, snapshot))

    def _told(self, cluster: str, touched: Collection[str]) -> frozenset[str]:
        here = [other for other in touched if other in self._clusters]
        for other in here:
            self._clusters[other].forget_clients()
        return frozenset((cluster, *here))

    def _renamed(self) -> None:
        self.generation += 1
        self._resolved.clear()


def _name(table: NameTable, snapshot: Snapshot) -> None:
    if snapshot.service is not None and snapshot.service.cluster == snapshot.cluster:
        table.add(snapshot.service)
    else:
        table.add_cluster(snapshot.cluster)
