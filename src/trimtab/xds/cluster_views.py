"""One cluster, encoded: each resource once per name and view, until what it is made of changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trimtab.model import Endpoint, Repeatable, Snapshot
from trimtab.xds import type_urls
from trimtab.xds.assignments import MAX_BODY, Fragments, View, assignment_resource
from trimtab.xds.free_names import FreeNames, renamed
from trimtab.xds.large_assignment import LARGE, SEATS, LargeAssignment, seat_of
from trimtab.xds.names import has_free_part
from trimtab.xds.resources import (
    EdsSource,
    Resource,
    cluster_resource,
    listener_resource,
    route_resource,
)
from trimtab.xds.server_client import Client
from trimtab.xds.zone_views import (
    RESERVE,
    Outlook,
    Surroundings,
    Vantage,
    capacity_of,
    mode_of,
    outlook,
)

MOST_SUBSET_BYTES = 256 << 20
"""Of subsets that are kept, each as large as a message may be; of every cluster ``SEATS`` in any case."""
_MOST_DISCARDED = 2
_MAX_SOURCED = 32  # per cluster: clients choose the names in their EDS sources


class SubsetBytes:
    """How much the clusters of one catalog keep of subsets.

    Attributes:
        used: by all of them [bytes].
    """

    __slots__ = ("used",)

    def __init__(self) -> None:
        self.used = 0


class ClusterViews:
    """One cluster's snapshot and everything that has been encoded from it.

    Args:
        snapshot: the cluster's present state.
        load_reports: whether its Clusters ask for load reports.
        kept: what the catalog's clusters keep of subsets, this one's included; None: it is alone.
        free_names: and under names that clients make up, likewise.
    """

    __slots__ = (
        "_capacity",
        "_discarded",
        "_free_names",
        "_kept",
        "_large",
        "_zones",
        "assignments",
        "cluster",
        "fragments",
        "load_reports",
        "snapshot",
        "sourced",
        "static",
        "subsets",
    )

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        load_reports: bool = False,
        kept: SubsetBytes | None = None,
        free_names: FreeNames | None = None,
    ) -> None:
        self.snapshot = snapshot
        self.load_reports = load_reports
        self.cluster = snapshot.cluster
        # CDS, LDS, RDS: endpoints don't matter
        self.static: dict[tuple[str, str, bool], Resource] = {}
        self.sourced: dict[tuple[str, EdsSource], Resource] = {}  # CDS, with an EDS source
        self.assignments: dict[tuple[str, View, Vantage | None], Resource] = {}
        self.subsets: dict[tuple[str, View, Vantage | None, int], Resource] = {}
        self._kept = kept or SubsetBytes()
        self._free_names = free_names or FreeNames()
        self.fragments = {view: Fragments(view) for view in View}
        self._large: dict[View, LargeAssignment] = {}
        self._discarded: dict[View, int] = {}  # in a row, of these, before they were done
        self._zones: str | None = None
        self._capacity: Mapping[str, int] | None = None

    def replace(self, snapshot: Snapshot) -> None:
        """Take the cluster's next state; what doesn't depend on what changed stays encoded."""
        old, self.snapshot = self.snapshot, snapshot
        if (old.policy, old.service) != (snapshot.policy, snapshot.service):
            self.static.clear()
            self.sourced.clear()
            self._zones = None
        self._capacity = None
        self.assignments.clear()
        self.forget_subsets()
        for view, large in self._large.items():
            self._discarded[view] = 0 if large.done else self._discarded.get(view, 0) + 1
        self._large.clear()

    @property
    def is_large(self) -> bool:
        """Whether its assignments are to be prepared before they are asked for."""
        return len(self.snapshot.endpoints) > LARGE

    def prepare(self, view: View) -> bool:
        """Do a bounded part of what assignments in this view need. Whether that was the last.

        Where the cluster changes more quickly than that, all is done at once every third time.
        """
        if not self.is_large:
            return True
        large = self._large_in(view)
        if self._discarded.get(view, 0) >= _MOST_DISCARDED:
            large.finish()
        return large.step()

    def _large_in(self, view: View) -> LargeAssignment:
        found = self._large.get(view)
        if found is None:
            found = LargeAssignment(self.snapshot, view, self.fragments[view])
            self._large[view] = found
        return found

    def forget_clients(self) -> None:
        """Some client Service has changed: what hangs on how many clients there are."""
        for key in [k for k in self.assignments if _counts_clients(k[2])]:
            del self.assignments[key]
        for part_key in [k for k in self.subsets if _counts_clients(k[2])]:
            self._drop(part_key)

    def forget_subsets(self) -> None:
        """Keep none of them any more: the cluster has changed, or is gone."""
        for key in list(self.subsets):
            self._drop(key)

    @property
    def zones(self) -> str:
        """How clients go by zones: see ``policies.stack.zone_mode``."""
        if self._zones is None:
            self._zones = mode_of(self.snapshot.policy)
        return self._zones

    @property
    def capacity(self) -> Mapping[str, int]:
        """Sums of weights by zone."""
        if self._capacity is None:
            self._capacity = capacity_of(self.snapshot)
        return self._capacity

    def get(self, type_url: str, name: str, client: Client, surroundings: Surroundings) -> Resource:
        """What a client is sent under a name."""
        if type_url == type_urls.EDS:
            return self._assignment(name, client, surroundings)
        if type_url == type_urls.CDS and client.eds_source is not None:
            return self._sourced(name, client.eds_source)
        nested = type_url == type_urls.CDS and client.goes_by_localities and self.zones == "prefer"
        return self._static(type_url, name, nested=nested)

    @property
    def _repeatable(self) -> Repeatable | None:
        service = self.snapshot.service
        return None if service is None else service.repeatable

    def _static(self, type_url: str, name: str, *, nested: bool = False) -> Resource:
        found = self.static.get((type_url, name, nested))
        if found is not None:
            return found
        if name != self.cluster and has_free_part(name):
            own = self._static(type_url, self.cluster, nested=nested)
            return self._free_names.get(
                name, own, lambda: self._encoded_static(type_url, name, nested=nested)
            )
        found = self._encoded_static(type_url, name, nested=nested)
        self.static[type_url, name, nested] = found
        return found

    def _encoded_static(self, type_url: str, name: str, *, nested: bool) -> Resource:
        if type_url == type_urls.CDS:
            return cluster_resource(
                name, self.snapshot, localities_first=nested, load_reports=self.load_reports
            )
        make = listener_resource if type_url == type_urls.LDS else route_resource
        return make(name, self.cluster, self.snapshot.policy, self._repeatable)

    def _sourced(self, name: str, source: EdsSource) -> Resource:
        found = self.sourced.get((name, source))
        if found is None:
            found = cluster_resource(name, self.snapshot, source, load_reports=self.load_reports)
            if len(self.sourced) >= _MAX_SOURCED:
                self.sourced.pop(next(iter(self.sourced)))
            self.sourced[name, source] = found
        return found

    def _assignment(self, name: str, client: Client, surroundings: Surroundings) -> Resource:
        view = client.view
        vantage = None if client.place is None else self._vantage(client, surroundings)
        key = (name, view, vantage)
        found = self.assignments.get(key)
        if found is None and name != self.cluster and has_free_part(name):
            own = self._assignment(self.cluster, client, surroundings)
            return self._free_names.get(name, own, lambda: renamed(own, name))
        if found is None and not (self.is_large and self._large_in(view).exceeds):
            found = self.assignments[key] = self._encoded(*key, surroundings)
        if found is not None and len(found.body) <= MAX_BODY:
            return found
        part_key = (*key, seat_of(client.node_id))
        part = self.subsets.get(part_key)
        if part is None:
            large = self._large_in(view)
            part = self._encoded(
                *key, surroundings, large.subset(part_key[-1]) if large.exceeds else None
            )
            self._keep(part_key, part)
        return part

    def _keep(self, key: tuple[str, View, Vantage | None, int], part: Resource) -> None:
        """Until the cluster changes: else each client of many would have its own put together anew."""
        size = len(part.body)
        while len(self.subsets) >= SEATS and self._kept.used + size > MOST_SUBSET_BYTES:
            self._drop(next(iter(self.subsets)))
        self.subsets[key] = part
        self._kept.used += size

    def _drop(self, key: tuple[str, View, Vantage | None, int]) -> None:
        self._kept.used -= len(self.subsets.pop(key).body)

    def made(self, name: str, client: Client, surroundings: Surroundings) -> bool:
        """Whether the assignment that a client is sent under a name is encoded already."""
        vantage = None if client.place is None else self._vantage(client, surroundings)
        key = (self.cluster if has_free_part(name) else name, client.view, vantage)
        return key in self.assignments or (*key, seat_of(client.node_id)) in self.subsets

    def _encoded(
        self,
        name: str,
        view: View,
        vantage: Vantage | None,
        surroundings: Surroundings,
        endpoints: Sequence[Endpoint] | None = None,
    ) -> Resource:
        return assignment_resource(
            name,
            self.snapshot,
            self.fragments[view],
            view,
            # Of the Cluster as most are sent it: what some are sent instead changes with it.
            salt=self._static(type_urls.CDS, name).version,
            endpoints=endpoints,
            outlook=None if vantage is None else self._outlook(view, vantage, surroundings),
        )

    def _vantage(self, client: Client, surroundings: Surroundings) -> Vantage | None:
        if client.place is None:
            return None
        audience = client.audience
        own_client = client.view is View.FULL
        found = surroundings.vantage(
            self.cluster,
            client.place,
            self.zones,
            own_client=own_client,
            visible=audience.sees if audience else None,
        )
        if found is None or own_client or self.zones != "strict" or found.zone in self.capacity:
            return found
        return None  # without an endpoint in the own zone strict says nothing

    def _outlook(self, view: View, vantage: Vantage, surroundings: Surroundings) -> Outlook:
        pods = surroundings.pods(vantage.clients) if vantage.clients else {}
        reserve = 0.0 if view is View.FULL else RESERVE
        return outlook(vantage, self.zones, pods, self.capacity, reserve=reserve)


def _counts_clients(vantage: Vantage | None) -> bool:
    return vantage is not None and vantage.clients is not None
