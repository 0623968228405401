"""Node's gRPC (``@grpc/grpc-js-xds``) against ``trimtab serve``.

The fixture ``control_plane`` fails every test in which a client rejected anything.
"""

from pathlib import Path

import pytest

from harness.client import Client, Road

pytestmark = pytest.mark.processes

FOLDER = Path(__file__).parent / "node"
ORDERS = Road("xds:///orders.shop:8080")
MISSING = Road("xds:///missing.shop:8080")
RETURN_WITHIN_S = 30


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
        "orders.shop.svc.cluster.local",
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


def test_an_unknown_service_fails_on_node_within_a_second(node, control_plane):
    answer = node.call(MISSING, within=5)
    assert answer.error.startswith("UNAVAILABLE"), answer
    assert answer.seconds < 1
    # grpc-js has a text of its own; which name it was stands in the control plane's list.
    (client,) = control_plane.clients()
    assert {r["name"]: r["state"] for r in client["resources"]} == {"missing.shop:8080": "absent"}


def test_node_reaches_a_service_that_was_unknown_once_it_exists(node, backends, manifests):
    assert node.call(MISSING, within=5).error.startswith("UNAVAILABLE")
    manifests.write("missing", "shop", backends.open("found"))
    node.wait_answer(MISSING, "found")


def test_node_accepts_everything_it_is_sent(node, control_plane):
    assert node.call(ORDERS).server in {"a", "b"}
    control_plane.wait_acked()
    (client,) = control_plane.clients()
    assert {r["type"] for r in client["resources"]} == {
        "Listener",
        "Cluster",
        "ClusterLoadAssignment",
    }
