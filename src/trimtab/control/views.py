"""What the admin pages show, as plain JSON values. Field names are part of the API.

Times are ages in seconds, so that they mean the same on the reader's clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from trimtab.control.logs import printable
from trimtab.control.problems import Sighting
from trimtab.control.store import NamedSource, Store
from trimtab.control.stream import Stream
from trimtab.discovery import Contact
from trimtab.discovery.check import CheckResult
from trimtab.model import Endpoint, Problem, Snapshot
from trimtab.xds.server_session import ResourceStatus

View = dict[str, Any]


def cluster_view(store: Store, snapshot: Snapshot, now: float) -> View:
    """One cluster: its names, its state by health and zone, its endpoints."""
    usable = snapshot.usable()
    changed = store.changed_at.get(snapshot.cluster)
    return {
        "name": snapshot.cluster,
        "aliases": _other_names(store, snapshot),
        "version": snapshot.version,
        "age_seconds": _age(now, changed),
        "counts": {h.value: n for h, n in snapshot.counts().items()},
        "usable": len(usable),
        "zones": dict(sorted(Counter(e.locality.zone for e in usable).items())),
        "endpoints": [endpoint_view(e) for e in snapshot.endpoints],
    }


def endpoint_view(endpoint: Endpoint) -> View:
    """One endpoint, without the fields that say nothing."""
    view: View = {
        "address": endpoint.target,
        "health": endpoint.health.value,
        "region": endpoint.locality.region,
        "zone": endpoint.locality.zone,
        "node": endpoint.node,
        "weight": endpoint.weight,
        "priority": endpoint.priority,
        "uid": endpoint.uid,
    }
    if endpoint.additional_addresses:
        view["additional_addresses"] = list(endpoint.additional_addresses)
    if endpoint.labels:
        view["labels"] = dict(endpoint.labels)
    if endpoint.ready_since is not None:
        view["ready_since"] = endpoint.ready_since
    return view


def source_view(source: NamedSource, now: float) -> View:
    """One source: whether it was read, and whether it can be now."""
    contact = source.contact() or Contact()
    return {
        "name": source.name,
        "synced": source.synced,
        "clusters_on_trust": len(source.on_trust),
        "contact_age_seconds": _age(now, contact.heard),
        "failing_seconds": _age(now, contact.failing_since),
        "reason": printable(contact.reason, limit=1000),
    }


def problem_view(problem: Problem) -> View:
    """One rejected part of the input."""
    return {
        "where": problem.where,
        "field": problem.field,
        "value": problem.value,
        "fix": problem.fix,
        "text": str(problem),
    }


def sighting_view(sighting: Sighting, now: float) -> View:
    """One rejected part of the input, with its source and when it was reported."""
    return {
        "source": sighting.source,
        **problem_view(sighting.problem),
        "age_seconds": _age(now, sighting.last),
        "times": sighting.times,
    }


def check_view(result: CheckResult, warnings: Sequence[Problem]) -> View:
    """What ``trimtab check`` found; ``warnings`` are all of them, the configuration's included."""
    return {
        "clusters": [
            {
                "name": snapshot.cluster,
                "version": snapshot.version,
                "counts": {h.value: n for h, n in snapshot.counts().items()},
                "endpoints": [endpoint_view(e) for e in snapshot.endpoints],
            }
            for snapshot in result.snapshots
        ],
        "problems": [problem_view(p) for p in result.problems],
        "warnings": [problem_view(p) for p in warnings],
        "files": result.files,
        "ignored_objects": result.ignored,
    }


def client_view(stream: Stream, now: float) -> View:
    """Who is at the other end of one stream."""
    client = stream.session.client
    return {
        "stream": stream.number,
        "node": printable(client.node_id) if client else "",
        "kind": stream.client_kind,
        "user_agent": printable(client.user_agent) if client else "",
        "namespace": printable(client.namespace) if client else "",
        "identity": printable(stream.subject),
        "peer": stream.peer,
        "service": stream.service,
        "transport": stream.transport,
        "connected_seconds": _age(now, stream.connected_at),
    }


def resource_view(status: ResourceStatus, now: float) -> View:
    """Where a stream stands with one resource."""
    return {
        "type": status.type_url.rpartition(".")[2],
        "name": printable(status.name),
        "cluster": status.cluster,
        "sent": status.sent,
        "acked": status.acked,
        "state": status.state,
        "state_seconds": _age(now, status.since),
        "error": printable(status.error, limit=1000, keep_tail=True),
    }


def _age(now: float, then: float | None) -> float | None:
    return None if then is None else round(max(0.0, now - then), 3)


def _other_names(store: Store, snapshot: Snapshot) -> list[str]:
    """The port's name in place of its number, and what the configuration file adds."""
    port = snapshot.service
    by_port_name = f"{port.service}.{port.namespace}:{port.port_name}" if port else ""
    names = [by_port_name] if port and port.port_name else []
    return names + [
        n for n in store.catalog.names.names_of(snapshot.cluster) if n != snapshot.cluster
    ]
