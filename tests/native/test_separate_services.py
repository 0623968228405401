"""Envoy without ADS: CDS, EDS, LDS and RDS, each over streams of its own."""

from collections import Counter

import pytest

from harness.envoy import Envoy, separate_services
from harness.traffic import Traffic

pytestmark = pytest.mark.processes

CLUSTER = "orders.shop:8080"
ROUTE = "orders-eds"  # an alias of that cluster
RETURN_WITHIN_S = 30


@pytest.fixture
def own_streams(control_plane, started, tmp_path):
    """Two Envoys, state-of-the-world and delta, with a listener that takes its route from RDS."""
    running = []
    for transport in ("sotw", "delta"):
        name = f"envoy-own-{transport}"
        bootstrap = separate_services(name, control_plane.address, transport, [ROUTE])
        running.append(started(Envoy(name, bootstrap, tmp_path)))
    for envoy in running:
        envoy.wait_ready()
        envoy.wait_cluster(CLUSTER)
    return running


@pytest.fixture
def own_traffic(own_streams, native):
    roads = {}
    for envoy in own_streams:
        roads[f"{envoy.name} by cluster"] = envoy.road(CLUSTER)
        roads[f"{envoy.name} by route"] = envoy.routed_road(ROUTE)
    return Traffic([(native, roads)])


def test_a_service_that_changes_and_a_restart_cost_no_request_without_ads(
    own_traffic, own_streams, orders, backends, manifests, control_plane
):
    a, b = orders.values()
    (c,) = backends.open("c")
    with own_traffic.load() as load:
        load.comes_from("a", "b")
        manifests.write("orders", "shop", [a, b, c])
        load.comes_from("a", "b", "c")
        manifests.write("orders", "shop", [a.draining(), b, c])
        load.comes_from("b", "c")
        manifests.write("orders", "shop", [b, c])
        assert backends.close("a") == 0
        load.comes_from("b", "c")

        # The cluster itself: Envoy asks for its endpoints anew, and waits for them.
        manifests.write("orders", "shop", [b, c], annotations={"trimtab.dev/policy": "random"})
        for envoy in own_streams:
            envoy.wait_policy(CLUSTER, "Random")
        load.comes_from("b", "c")

        control_plane.kill()
        manifests.write("orders", "shop", [c])
        load.goes_on(5)
        control_plane.start()
        load.comes_from("c", within=RETURN_WITHIN_S)
    control_plane.wait_acked()


def test_a_service_that_comes_later_is_a_cluster_without_ads(
    own_streams, native, backends, manifests
):
    manifests.write("late", "shop", backends.open("late"))
    for envoy in own_streams:
        envoy.wait_cluster("late.shop:8080")
        assert native.call(envoy.road("late.shop:8080")).server == "late"


def test_each_type_has_streams_of_its_own(own_streams, control_plane):
    streams = Counter((c["node"], c["service"]) for c in control_plane.clients())
    clusters = {CLUSTER, ROUTE, "ratelimit-headless.ratelimit:1081", "ratelimit-eds"}
    one_of_each = {"cds": 1, "lds": 1, "rds": 1, "eds": len(clusters)}
    assert streams == {(e.name, s): n for e in own_streams for s, n in one_of_each.items()}


@pytest.mark.parametrize("transport", ["sotw", "delta"])
def test_a_route_to_an_unknown_service_does_not_delay_the_start_of_envoy(
    transport, control_plane, started, tmp_path, native, backends, manifests
):
    routes = [ROUTE, "late.shop:8080"]
    bootstrap = separate_services("unknown", control_plane.address, transport, routes)
    envoy = started(Envoy("unknown", bootstrap, tmp_path))
    envoy.wait_ready()  # in less time than Envoy waits for an answer
    assert native.call(envoy.routed_road(ROUTE)).server in {"a", "b"}
    late = envoy.routed_road("late.shop:8080")
    assert native.call(late).error.startswith("UNIMPLEMENTED")  # gRPC's word for HTTP's 404
    manifests.write("late", "shop", backends.open("late"))
    native.wait_answer(late, "late")
