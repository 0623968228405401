"""Every name that the design promises, asked by the real clients."""

import pytest

from harness.client import Road
from harness.envoy import Envoy

pytestmark = pytest.mark.processes

NAMES = (
    "orders.shop:8080",
    "orders.shop:grpc",
    "orders.shop",
    "orders.shop.svc.cluster.local:8080",
    "orders.shop.svc.cluster.local:grpc",
    "orders.shop.svc.cluster.local",
    "orders:8080",  # of the client's own namespace
    "orders:grpc",
    "orders",
    "orders-eds",  # from the configuration file
)


@pytest.mark.parametrize("kind", ["native", "trimtab"])
def test_a_service_is_reached_under_each_of_its_names(kind, request):
    client = request.getfixturevalue(kind)
    answers = {name: client.call(Road(f"xds:///{name}")) for name in NAMES}
    assert [(n, a.error) for n, a in answers.items() if a.server not in {"a", "b"}] == []


def test_native_grpc_reaches_a_headless_service_under_a_configured_name(native):
    assert native.call(Road("xds:///ratelimit-headless.ratelimit:1081")).server == "limits"
    assert native.call(Road("xds:///ratelimit-eds")).server == "limits"


def test_envoy_reaches_services_under_canonical_and_configured_names(native, envoys):
    clusters = {
        "ads": {
            "orders.shop:8080": "ab",
            "orders-eds": "ab",
            "ratelimit-headless.ratelimit:1081": ["limits"],
            "ratelimit-eds": ["limits"],
        },
        "eds": {"orders": "ab", "orders-by-alias": "ab", "limits": ["limits"]},
    }
    for name, envoy in envoys.items():
        for cluster, servers in clusters[name.split("-")[1]].items():
            envoy.wait_cluster(cluster)
            answer = native.call(envoy.road(cluster))
            assert answer.server in servers, f"{name} {cluster}: {answer}"


def test_envoy_starts_with_the_bootstrap_that_trimtab_prints(control_plane, started, tmp_path):
    printed = control_plane.bootstrap("envoy", node_id="printed")
    anywhere = printed.replace("port_value: 9901", "port_value: 0")
    assert anywhere != printed
    envoy = started(Envoy("printed", anywhere, tmp_path))
    envoy.wait_ready()
    envoy.wait_cluster("orders.shop:8080")
    envoy.wait_cluster("orders-eds")
