"""Native gRPC, Envoy and trimtab's client against the control plane, each a real process."""

import pytest

from harness.client import Road
from harness.envoy import Envoy, aggregated, endpoints_only
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
from harness.python_clients import native_client, trimtab_client
from harness.traffic import Traffic

__all__ = [
    "addresses",
    "backends",
    "control_plane",
    "limits",
    "manifests",
    "orders",
    "servers_process",
    "started",
]

EDS_CLUSTERS = {
    "orders": "orders.shop:8080",
    "orders-by-alias": "orders-eds",
    "limits": "ratelimit-eds",
}


@pytest.fixture
def native(control_plane, started):
    """A native gRPC client with the bootstrap that ``trimtab bootstrap`` prints."""
    printed = control_plane.bootstrap("grpc", node_id="native", namespace="shop")
    return started(native_client(printed))


@pytest.fixture
def envoys(control_plane, started, tmp_path):
    """Four Envoys: ADS and the separate EDS service, each state-of-the-world and delta."""
    running = {}
    for transport in ("sotw", "delta"):
        ads, eds = f"envoy-ads-{transport}", f"envoy-eds-{transport}"
        running[ads] = aggregated(ads, control_plane.address, transport)
        running[eds] = endpoints_only(eds, control_plane.address, transport, EDS_CLUSTERS)
    running = {n: started(Envoy(n, bootstrap, tmp_path)) for n, bootstrap in running.items()}
    for envoy in running.values():
        envoy.wait_ready()
    return running


@pytest.fixture
def trimtab(control_plane, started):
    """trimtab's own client, with the same kind of bootstrap."""
    printed = control_plane.bootstrap("grpc", node_id="trimtab", namespace="shop")
    return started(trimtab_client(printed))


@pytest.fixture
def traffic(native, trimtab, envoys):
    """trimtab's client, native gRPC and, behind native gRPC, each Envoy."""
    clusters = {
        "envoy-ads-sotw": "orders.shop:8080",
        "envoy-ads-delta": "orders-eds",
        "envoy-eds-sotw": "orders-by-alias",
        "envoy-eds-delta": "orders",
    }
    direct = Road("xds:///orders.shop:grpc")
    proxied = {name: envoys[name].road(cluster) for name, cluster in clusters.items()}
    return Traffic([(trimtab, {"trimtab": direct}), (native, {"native": direct, **proxied})])
