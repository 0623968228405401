"""Clients of other languages, and a real API server; most parts are those of tests/native."""

from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

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


WITHOUT_LOAD = {
    "test_image",
    "test_queries",
    "test_rejection_behaviours",
    "test_rejections",
    "test_rules",
}


class Chains(LoadScopeScheduling):
    """Three chains of tests, two at a time (``make interop``): each waits most of its time.

    One has the API server, whose addresses are there once; one what waits for silence to be
    noticed, and what needs no load; one the other clients.
    """

    def _split_scope(self, nodeid):
        file = Path(nodeid.partition("::")[0]).stem
        if file.startswith("test_kube_"):
            return "kube"
        return "silence" if file in WITHOUT_LOAD | {"test_silence"} else "clients"


def pytest_xdist_make_scheduler(config, log):
    return Chains(config, log)
