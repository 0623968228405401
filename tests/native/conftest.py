"""Native gRPC and Envoy against the control plane, all real, each in a process of its own."""

from dataclasses import dataclass

import pytest

from harness.client import Client, Road
from harness.envoy import Envoy, aggregated, endpoints_only
from harness.fixtures import backends, control_plane, limits, manifests, orders, started
from harness.native import native_client

__all__ = ["backends", "control_plane", "limits", "manifests", "orders", "started"]

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


@dataclass
class Traffic:
    """One client process and all the roads on which it reaches ``orders.shop``."""

    client: Client
    roads: dict

    def load(self, rate=150):
        return self.client.load(self.roads, rate=rate)


@pytest.fixture
def traffic(native, envoys):
    """Native gRPC and each Envoy."""
    clusters = {
        "envoy-ads-sotw": "orders.shop:8080",
        "envoy-ads-delta": "orders-eds",
        "envoy-eds-sotw": "orders-by-alias",
        "envoy-eds-delta": "orders",
    }
    roads = {name: envoys[name].road(cluster) for name, cluster in clusters.items()}
    return Traffic(native, {"native": Road("xds:///orders.shop:grpc"), **roads})
