"""gRFC A78's metrics of the subscriptions of this process, read when somebody asks.

``grpc.target`` is not among the labels: the channels of a process share one subscription.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Mapping
from typing import Protocol

from trimtab.telemetry import Metric

_SERVER = ("grpc_xds_server",)
_RESOURCES = ("grpc_xds_server", "grpc_xds_resource_type")
METRICS = (
    Metric(
        "grpc_xds_client_connected",
        "gauge",
        "1 while a stream to the control plane works (gRFC A78).",
        _SERVER,
    ),
    Metric(
        "grpc_xds_client_server_failure_total",
        "counter",
        "How often a control plane went from good to bad (gRFC A78).",
        _SERVER,
    ),
    Metric(
        "grpc_xds_client_resource_updates_valid_total",
        "counter",
        "Resources received that were valid, changed or not (gRFC A78).",
        _RESOURCES,
    ),
    Metric(
        "grpc_xds_client_resource_updates_invalid_total",
        "counter",
        "Resources received that were refused (gRFC A78).",
        _RESOURCES,
    ),
)

Values = dict[str, dict[tuple[str, ...], float]]


class Health(Protocol):
    """See ``server_health.ServerHealth``; a fixed list works without the modules that it needs."""

    @property
    def connected(self) -> bool | None:
        """None: it is not needed now."""

    @property
    def failures(self) -> int:
        """How often it went from good to bad."""

    @property
    def received(self) -> Mapping[tuple[str, bool], int]:
        """Resources by type URL and by whether they were valid."""


class Servers(Protocol):
    """Whose control planes are told of."""

    def servers(self) -> Iterable[tuple[str, Health]]:
        """Each with its URI."""


_lock = threading.Lock()
_known: weakref.WeakSet[Servers] = weakref.WeakSet()


def add(one: Servers) -> None:
    """Tell of this one's servers for as long as it lives."""
    with _lock:
        _known.add(one)


def forget() -> None:
    """In a forked child: the parent's are not this process's. No lock: its holder may be gone."""
    global _lock, _known
    _lock, _known = threading.Lock(), weakref.WeakSet()


def read() -> Values:
    """By metric, the present value for each set of label values. From any thread."""
    found: Values = {metric.name: {} for metric in METRICS}
    connected, failures, valid, invalid = found.values()
    with _lock:
        known = list(_known)
    for server, health in (pair for each in known for pair in each.servers()):
        where = (server,)
        if health.connected is not None:
            connected[where] = min(connected.get(where, 1.0), float(health.connected))
        elif not (health.failures or any(health.received.values())):
            continue  # never used
        failures[where] = failures.get(where, 0.0) + health.failures
        for (type_url, good), count in list(health.received.items()):
            table, labels = valid if good else invalid, (server, type_url.rpartition("/")[2])
            table[labels] = table.get(labels, 0.0) + count
    return found
