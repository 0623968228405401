"""Clients of other languages, and a real API server; most parts are those of tests/native."""

from harness.fixtures import (
    addresses,
    backends,
    control_plane,
    limits,
    manifests,
    orders,
    servers_process,
    started,
)
from harness.kube.fixtures import (
    bare_cluster,
    bare_session,
    cluster,
    every_road,
    kube_control_plane,
    kube_etcd,
    kube_session,
    kube_traffic,
    orders_pods,
    space,
)

__all__ = [
    "addresses",
    "backends",
    "bare_cluster",
    "bare_session",
    "cluster",
    "control_plane",
    "every_road",
    "kube_control_plane",
    "kube_etcd",
    "kube_session",
    "kube_traffic",
    "limits",
    "manifests",
    "orders",
    "orders_pods",
    "servers_process",
    "space",
    "started",
]
