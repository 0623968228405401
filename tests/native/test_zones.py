"""Native gRPC and Envoy in two zones: who answers them, by the pods of both sides."""

import json
from dataclasses import replace

import pytest

from harness.client import Road
from harness.envoy import Envoy, aggregated
from harness.python_clients import native_client
from harness.waiting import Unmet, eventually
from harness.zones import front, settle

pytestmark = pytest.mark.processes

CLUSTER = "orders.shop:8080"
TARGET = Road("xds:///orders.shop:grpc")


@pytest.fixture
def servers(orders, backends, manifests):
    """``orders.shop``: ``a`` in zone a, ``b`` and ``c`` in zone b."""
    (c,) = backends.open("c")
    pods = [replace(orders["a"], zone="a"), replace(orders["b"], zone="b"), replace(c, zone="b")]
    manifests.write("orders", "shop", pods)
    return pods


@pytest.fixture
def roads(servers, control_plane, manifests, started, tmp_path):
    """Native gRPC and Envoy in each zone: by name and zone, the client and its road."""
    front(manifests, control_plane, a=2, b=1)
    found = {}
    for zone in "ab":
        place = {"zone": zone, "service": "front.shop"}
        printed = control_plane.bootstrap("grpc", node_id=f"native-{zone}", **place)
        native = started(native_client(printed))
        found["native", zone] = native, TARGET
        bootstrap = aggregated(f"envoy-{zone}", control_plane.address, "delta", **place)
        envoy = started(Envoy(f"envoy-{zone}", bootstrap, tmp_path))
        envoy.wait_ready()
        envoy.wait_cluster(CLUSTER)
        found["envoy", zone] = native, envoy.road(CLUSTER)
    return found


def test_clients_of_two_zones_send_in_proportion_spill_over_and_come_home(
    roads, servers, manifests, control_plane
):
    # 2 of 3 clients are in zone a, 1 of 3 pods: half of what a asks can stay there.
    settle(roads, {"a": 0.5, "b": 0.0})
    home, *away = servers
    manifests.write("orders", "shop", away)
    settle(roads, {"a": 0.0, "b": 0.0})
    manifests.write("orders", "shop", servers)
    settle(roads, {"a": 0.5, "b": 0.0})
    manifests.write("orders", "shop", [home])
    settle(roads, {"a": 1.0, "b": 1.0})
    manifests.write("orders", "shop", servers)
    # Clients move: now each zone carries its own.
    front(manifests, control_plane, a=1, b=2)
    settle(roads, {"a": 1.0, "b": 0.0})


def test_strict_clients_leave_their_zone_only_when_nothing_is_left_there(
    roads, servers, manifests, backends
):
    strict = {"annotations": {"trimtab.dev/zone": "strict"}}
    manifests.write("orders", "shop", servers, **strict)
    settle(roads, {"a": 1.0, "b": 0.0})
    manifests.write("orders", "shop", servers[1:], **strict)
    settle(roads, {"a": 0.0, "b": 0.0})
    manifests.write("orders", "shop", servers, **strict)
    settle(roads, {"a": 1.0, "b": 0.0})
    # The pod is gone and its slice doesn't say so yet: native gRPC finds out by itself.
    backends.close("a")
    native, road = roads["native", "a"]

    def gone():
        answer = native.call(road)
        return answer.server in {"b", "c"} or Unmet(f"{answer}")

    eventually(gone, within=20, what="native gRPC in zone a leaves it")


def test_round_robin_goes_by_zones_as_well(roads, servers, manifests):
    annotations = {"trimtab.dev/policy": "round_robin"}
    manifests.write("orders", "shop", servers, annotations=annotations)
    settle(roads, {"a": 0.5, "b": 0.0})


def test_a_traffic_distribution_means_prefer_and_an_annotation_goes_before_it(
    roads, servers, manifests, control_plane
):
    def setting():
        told = json.loads(control_plane.get("/api/v1/why?name=orders.shop:8080")[1])["policy"]
        return {each["setting"]: each["value"] for each in told}.get("zone")

    manifests.write("orders", "shop", servers, distribution="PreferSameZone")
    eventually(lambda: setting() == "prefer", within=10, what="it is taken for zone: prefer")
    settle(roads, {"a": 0.5, "b": 0.0})
    strict = {"trimtab.dev/zone": "strict"}
    manifests.write("orders", "shop", servers, distribution="PreferSameZone", annotations=strict)
    settle(roads, {"a": 1.0, "b": 0.0})
