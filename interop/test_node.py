"""Node's gRPC (``@grpc/grpc-js-xds``) against ``trimtab serve``. No fixture here knows of NACKs:
``control_plane`` fails a test in which any client sent one.
"""

from pathlib import Path

import pytest

from harness.client import Client, Road

pytestmark = pytest.mark.processes

FOLDER = Path(__file__).parent / "node"
ORDERS = Road("xds:///orders.shop:grpc")
RETURN_WITHIN_S = 20


@pytest.fixture
def node(control_plane, started):
    """A Node client with the bootstrap that ``trimtab bootstrap`` prints."""
    if not (FOLDER / "node_modules").exists():
        raise AssertionError(f"{FOLDER} is not installed: `make interop` does it")
    printed = control_plane.bootstrap("grpc", node_id="node", namespace="shop")
    environment = {"GRPC_XDS_BOOTSTRAP_CONFIG": printed}
    return started(Client("node", ["node", "client.mjs"], cwd=FOLDER, env=environment))


@pytest.mark.parametrize(
    "name",
    [
        "orders.shop:8080",
        "orders.shop",
        "orders.shop.svc.cluster.local:grpc",
        "orders",
        "orders-eds",
    ],
)
def test_node_resolves_a_service_by_its_names(node, name):
    answer = node.call(Road(f"xds:///{name}"))
    assert answer.server in {"a", "b"}, answer


def test_node_follows_changes_under_load_without_an_error(node, orders, backends, manifests):
    a, b = orders.values()
    with node.load({"node": ORDERS}, rate=100) as load:
        load.comes_from("a", "b")
        (c,) = backends.open("c")
        manifests.write("orders", "shop", [a, b, c])
        load.comes_from("a", "b", "c")
        manifests.write("orders", "shop", [a.draining(), b, c])
        load.comes_from("b", "c")
        manifests.write("orders", "shop", [b, c])
        assert backends.close("a") == 0
        load.comes_from("b", "c")


def test_a_killed_control_plane_costs_node_no_request_and_is_followed_again(
    node, orders, control_plane, backends, manifests
):
    (c,) = backends.open("c")
    with node.load({"node": ORDERS}, rate=100) as load:
        load.comes_from("a", "b")
        control_plane.kill()
        load.goes_on(50)
        manifests.write("orders", "shop", [*orders.values(), c])
        control_plane.start()
        load.comes_from("a", "b", "c", within=RETURN_WITHIN_S)


def test_node_is_told_of_an_unknown_service_quickly_and_by_name(node):
    answer = node.call(Road("xds:///missing.shop:8080"), within=5)
    assert answer.error.startswith("UNAVAILABLE"), answer
    assert "missing.shop:8080" in answer.error
    assert answer.seconds < 1


def test_node_accepts_everything_it_is_sent(node, control_plane):
    assert node.call(ORDERS).server in {"a", "b"}
    control_plane.wait_acked()
    (client,) = control_plane.clients()
    assert {r["type"] for r in client["resources"]} == {
        "Listener",
        "Cluster",
        "ClusterLoadAssignment",
    }
