"""From where a client looks at a cluster: its zone, its peers, and what follows for its view. Pure.

There are at most as many views of a cluster as there are zones times client Services that ask. What is
kept here is made when the first client needs it, so that services without zones cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from trimtab.errors import ConfigError
from trimtab.model import Endpoint, Health, PolicyConfig, ServicePort, Snapshot
from trimtab.policies.stack import zone_mode
from trimtab.policies.zone_split import UNKNOWN, Shares, with_reserve, zone_split

K = TypeVar("K")

RESERVE = 0.01
"""Of the requests of clients that can't spill over by load: it goes everywhere by capacity, so that
where the own zone's endpoints fail the client knows the others, and in good proportion."""

_MAX_HOPED = 10_000  # names of Services that don't exist: clients made them up, or are early
_MAX_NODES = 100_000


class ServiceName(NamedTuple):
    """A Service, whatever its ports."""

    name: str
    namespace: str

    def __str__(self) -> str:
        return f"{self.name}.{self.namespace}"

    @classmethod
    def of(cls, port: ServicePort) -> ServiceName:
        """The Service of a port."""
        return cls(port.service, port.namespace)

    @classmethod
    def parse(cls, text: str, namespace: str) -> ServiceName | None:
        """``SERVICE.NAMESPACE``, more after that or a port making no difference.

        A bare ``SERVICE`` is in ``namespace``; None if that is not known, either.
        """
        name, _, rest = text.partition(":")[0].partition(".")
        namespace = rest.partition(".")[0] or namespace
        return cls(name, namespace) if name and namespace else None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a client runs, in its own words.

    Attributes:
        zone: its zone, "" if it doesn't know.
        node: the name of its Kubernetes node, "" likewise.
        service: the Service that it belongs to; None likewise.
    """

    zone: str = ""
    node: str = ""
    service: ServiceName | None = None


class Vantage(NamedTuple):
    """What makes one view of a cluster differ from another.

    Attributes:
        zone: the client's.
        clients: its Service; None: how many clients there are makes no difference.
    """

    zone: str
    clients: ServiceName | None = None

    def __str__(self) -> str:
        return f"from {self.zone}" + (f" of {self.clients}" if self.clients else "")


@dataclass(frozen=True, slots=True)
class Outlook:
    """What an assignment says of zones to the clients at one vantage.

    Attributes:
        zone: theirs.
        shares: of their requests, by server zone; None: unknown.
        strict: the others are for when their own zone has nothing to use.
    """

    zone: str
    shares: Shares | None = None
    strict: bool = False


def capacity_of(snapshot: Snapshot) -> Mapping[str, int]:
    """Sums of weights by zone, of what may be used."""
    found: dict[str, int] = {}
    for endpoint in snapshot.usable():
        zone = endpoint.locality.zone
        found[zone] = found.get(zone, 0) + endpoint.weight
    return found


def pods_of(snapshot: Snapshot) -> Mapping[str, int]:
    """Ready pods by zone."""
    found: dict[str, int] = {}
    for endpoint in snapshot.endpoints:
        if endpoint.health is Health.READY:
            zone = endpoint.locality.zone
            found[zone] = found.get(zone, 0) + 1
    return found


def mode_of(policy: PolicyConfig | None) -> str:
    """As ``zone_mode``; parameters that are out of range count as absent."""
    try:
        return zone_mode(policy)
    except ConfigError:
        return zone_mode(None)


def outlook(
    vantage: Vantage,
    mode: str,
    clients: Mapping[str, int],
    servers: Mapping[str, int],
    *,
    reserve: float,
) -> Outlook:
    """What follows from both sides' counts.

    Args:
        vantage: whose view.
        mode: see ``zone_mode``.
        clients: pods by zone.
        servers: capacity by zone.
        reserve: see ``RESERVE``; 0 for a client that spills over by itself.
    """
    strict = mode == "strict" and vantage.zone in servers
    if vantage.clients is None or mode != "prefer":
        return Outlook(vantage.zone, strict=strict)
    rows = zone_split(clients, servers)
    row = rows.get(vantage.zone, rows[UNKNOWN])
    return Outlook(vantage.zone, with_reserve(row, servers, reserve) if reserve else row)


class Surroundings:
    """Who is where: the zones of nodes and of client Services, from all snapshots.

    Args:
        snapshots: the catalog's, by cluster; read when needed.
    """

    def __init__(self, snapshots: Mapping[str, Snapshot]) -> None:
        self._snapshots = snapshots
        self._ports: dict[ServiceName, set[str]] = {}
        self._pods: dict[ServiceName, Mapping[str, int]] = {}
        self._readers: dict[ServiceName, set[str]] = {}
        self._hoped: dict[ServiceName, set[str]] = {}  # readers of Services that don't exist
        self._nodes: dict[str, str] | None = None  # their zones; None: nobody has asked yet
        self._seen: dict[str, dict[str, int]] = {}  # by node: how many endpoints name which zone
        self._sought: dict[str, set[str]] = {}  # readers by node that is not known
        self._by_node: set[str] = set()  # what is read by clients that name their node

    def changed(self, cluster: str, old: Snapshot | None, new: Snapshot | None) -> Collection[str]:
        """Take in that a cluster changed; ``snapshots`` say so already.

        Returns:
            The clusters some of whose views change with it.
        """
        touched: set[str] = set()
        for service in _services(old, new):
            ports = self._ports.setdefault(service, set())
            ports.discard(cluster)
            if new is not None and new.service and ServiceName.of(new.service) == service:
                ports.add(cluster)
            if not ports:
                del self._ports[service]
            before = self._pods.pop(service, {})
            waiting = [table for table in (self._readers, self._hoped) if service in table]
            if waiting and self.pods(service) != before:
                # Who still wants it asks again.
                touched.update(*(table.pop(service) for table in waiting))
            elif not ports:
                for reader in self._readers.pop(service, ()):  # it had no pods, and may come again
                    _note(self._hoped, service, reader, _MAX_HOPED)
        if self._nodes is not None:
            touched |= self._count_nodes(self._nodes, *_differences(old, new))
        return touched

    def pods(self, service: ServiceName) -> Mapping[str, int]:
        """A Service's ready pods by zone; empty if there are none, or no such Service."""
        known = self._pods.get(service)
        if known is None:
            if service not in self._ports:
                return {}
            ports = (self._snapshots[c] for c in sorted(self._ports[service]))
            counts = [pods_of(snapshot) for snapshot in ports]
            # All ports of a Service have the same pods, but for one that some pods don't name.
            known = max(counts, key=lambda count: sum(count.values()), default={})
            self._pods[service] = known
        return known

    def vantage(
        self,
        cluster: str,
        place: Place,
        mode: str,
        *,
        own_client: bool,
        visible: Callable[[ServicePort | None], bool] | None = None,
    ) -> Vantage | None:
        """From where a client sees a cluster; None: as one that says nothing of itself.

        Args:
            cluster: what it looks at.
            place: where it runs.
            mode: see ``zone_mode``.
            own_client: it is one of trimtab's, which goes by zones itself.
            visible: which Services it may know of; None: all.
        """
        zone = place.zone or self._zone_of(place.node, cluster)
        if not zone:
            return None
        clients = None
        if mode == "prefer" and place.service is not None:
            clients = self._counted(cluster, place.service, zone, visible)
        looked_up = own_client and not place.zone
        strict = not own_client and mode == "strict"
        return Vantage(zone, clients) if clients or looked_up or strict else None

    def _counted(
        self,
        cluster: str,
        service: ServiceName,
        zone: str,
        visible: Callable[[ServicePort | None], bool] | None,
    ) -> ServiceName | None:
        if service in self._ports:
            self._readers.setdefault(service, set()).add(cluster)
        else:
            _note(self._hoped, service, cluster, _MAX_HOPED)
        if zone not in self.pods(service):
            return None
        if visible is not None:
            ports = (self._snapshots[c].service for c in self._ports[service])
            return service if any(map(visible, ports)) else None
        return service

    def _zone_of(self, node: str, cluster: str) -> str:
        if not node:
            return ""
        if self._nodes is None:
            self._nodes = {}
            for snapshot in self._snapshots.values():
                self._count_nodes(self._nodes, (), snapshot.endpoints)
        self._by_node.add(cluster)
        zone = self._nodes.get(node)
        if zone is None:
            _note(self._sought, node, cluster, _MAX_NODES)
        return zone or ""

    def _count_nodes(
        self, nodes: dict[str, str], gone: Iterable[Endpoint], come: Iterable[Endpoint]
    ) -> set[str]:
        """Bring the zones of nodes up to date; who hangs on those that changed.

        A node that is left without endpoints stays where it was: it has not moved.
        """
        touched: set[str] = set()
        for node in self._seen_at(come, 1) | self._seen_at(gone, -1):
            zones = self._seen[node]
            if not zones:
                del self._seen[node]
                continue
            # Several: a label is being changed, or two clusters of pods have a node of that name.
            zone = next(iter(zones)) if len(zones) == 1 else ""
            before = nodes.get(node)
            if before is None:
                touched |= self._sought.pop(node, set())
            elif before != zone:
                touched |= self._by_node
            nodes[node] = zone
        if len(nodes) > len(self._seen) + _MAX_NODES:
            for node in nodes.keys() - self._seen.keys():
                del nodes[node]
        return touched

    def _seen_at(self, endpoints: Iterable[Endpoint], step: int) -> set[str]:
        """Count endpoints in or out; at which nodes they are."""
        found: set[str] = set()
        for endpoint in endpoints:
            node, zone = endpoint.node, endpoint.locality.zone
            if node and zone:
                counts = self._seen.setdefault(node, {})
                counts[zone] = counts.get(zone, 0) + step
                if not counts[zone]:
                    del counts[zone]
                found.add(node)
        return found


def _note(table: dict[K, set[str]], key: K, cluster: str, most: int) -> None:
    """Add to a table of what clients say; the oldest makes room, since most of it never comes true."""
    known = table.get(key)
    if known is None:
        if len(table) >= most:
            del table[next(iter(table))]
        known = table[key] = set()
    known.add(cluster)


def _differences(
    old: Snapshot | None, new: Snapshot | None
) -> tuple[Iterable[Endpoint], Iterable[Endpoint]]:
    """The endpoints that went and those that came; most stay, as the very objects that they are."""
    before = old.endpoints if old else ()
    after = new.endpoints if new else ()
    if len(before) == len(after):
        pairs = [(b, a) for b, a in zip(before, after, strict=True) if b is not a]
        return [b for b, _ in pairs], [a for _, a in pairs]
    had, has = set(map(id, before)), set(map(id, after))
    return [e for e in before if id(e) not in has], [e for e in after if id(e) not in had]


def _services(*snapshots: Snapshot | None) -> set[ServiceName]:
    return {ServiceName.of(s.service) for s in snapshots if s is not None and s.service is not None}
