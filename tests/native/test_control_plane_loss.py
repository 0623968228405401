"""The control plane dies, comes back, comes back slowly: no request is lost on any road."""

import os

import pytest

from harness.traffic import ABSENCE_S

pytestmark = pytest.mark.processes

RETURN_WITHIN_S = 30  # clients back off for some seconds when their control plane is away
LATE_RETURN_WITHIN_S = 150 if ABSENCE_S else RETURN_WITHIN_S  # native gRPC: two minutes at last


@pytest.mark.timeout(120 + 3 * ABSENCE_S)
def test_a_killed_control_plane_costs_no_request_and_is_followed_again_when_it_is_back(
    traffic, orders, control_plane, backends, manifests
):
    (c,) = backends.open("c")
    with traffic.load() as load:
        load.comes_from("a", "b")
        control_plane.kill()
        load.goes_without(10)
        manifests.write("orders", "shop", [*orders.values(), c])
        load.goes_on(5)
        control_plane.start()
        load.comes_from("a", "b", "c", within=LATE_RETURN_WITHIN_S)
        manifests.write("orders", "shop", [c])
        load.comes_from("c")


def test_an_orderly_restart_costs_no_request(traffic, control_plane):
    with traffic.load() as load:
        load.comes_from("a", "b")
        assert control_plane.terminate() == 0
        control_plane.start()
        control_plane.wait_clients(*traffic.nodes, within=RETURN_WITHIN_S)
        control_plane.wait_acked()
        load.comes_from("a", "b")


def test_a_restart_with_a_slow_source_costs_no_request(
    traffic, orders, control_plane, backends, manifests
):
    (c,) = backends.open("c")
    with traffic.load() as load:
        load.comes_from("a", "b")
        control_plane.kill()
        manifests.write("orders", "shop", [*orders.values(), c])
        manifests.put_what_takes_seconds_to_read()
        control_plane.start_silent()
        control_plane.wait_clients(*traffic.nodes, within=RETURN_WITHIN_S)
        assert control_plane.get("/readyz")[0] == 503
        load.comes_from("a", "b")
        assert control_plane.get("/readyz")[0] == 503
        control_plane.wait_ready()
        load.comes_from("a", "b", "c")


def test_a_restart_onto_a_broken_manifest_costs_no_request(
    traffic, orders, control_plane, manifests
):
    with traffic.load() as load:
        load.comes_from("a", "b")
        control_plane.kill()
        manifests.put("shop-orders.yaml", "kind: [Service\n")
        control_plane.start_silent()
        control_plane.wait_clients(*traffic.nodes, within=RETURN_WITHIN_S)
        load.goes_on(15)
        manifests.write("orders", "shop", [orders["b"]])
        control_plane.wait_ready()
        load.comes_from("b", within=RETURN_WITHIN_S)


def test_a_control_plane_that_is_killed_again_and_again_costs_no_request(traffic, control_plane):
    """Three times here; docs/results/never-empty.md has fifty (``TRIMTAB_KILLS=50``)."""
    with traffic.load() as load:
        load.comes_from("a", "b")
        for _ in range(int(os.environ.get("TRIMTAB_KILLS", "3"))):
            control_plane.kill()
            load.goes_on(2)
            control_plane.start()
            load.goes_on(2)
        control_plane.wait_clients(*traffic.nodes, within=RETURN_WITHIN_S)
        load.comes_from("a", "b")
