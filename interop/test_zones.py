"""gRPC of Go, Java and Node in two zones: the control plane's split, kept by each as it can."""

from dataclasses import replace

import pytest
import test_java
import test_node

from harness import go_client
from harness.client import Client, Road
from harness.zones import front, settle

pytestmark = pytest.mark.processes

ORDERS = Road("xds:///orders.shop:8080")
LANGUAGES = {
    "go": lambda: ([go_client.PROGRAM], {}),
    "java": lambda: (test_java.command("grpc"), {}),
    "node": lambda: (["node", "client.mjs"], {"cwd": test_node.FOLDER}),
}


@pytest.fixture
def servers(orders, backends, manifests):
    """``orders.shop``: ``a`` in zone a, ``b`` and ``c`` in zone b."""
    (c,) = backends.open("c")
    pods = [replace(orders["a"], zone="a"), replace(orders["b"], zone="b"), replace(c, zone="b")]
    manifests.write("orders", "shop", pods)
    return pods


@pytest.fixture(params=LANGUAGES)
def roads(request, servers, control_plane, manifests, started):
    """A client of the language in each zone."""
    assert servers
    front(manifests, control_plane, a=2, b=1)
    command, how = LANGUAGES[request.param]()
    found = {}
    for zone in "ab":
        name = f"{request.param}-{zone}"
        printed = control_plane.bootstrap("grpc", node_id=name, zone=zone, service="front.shop")
        environment = {"GRPC_XDS_BOOTSTRAP_CONFIG": printed}
        client = started(Client(name, command, env=environment, **how))
        assert client.call(ORDERS, within=30).server
        found[request.param, zone] = client, ORDERS
    return found


@pytest.mark.timeout(300)
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


@pytest.mark.timeout(300)
def test_strict_clients_leave_their_zone_only_when_nothing_is_left_there(roads, servers, manifests):
    strict = {"annotations": {"trimtab.dev/zone": "strict"}}
    manifests.write("orders", "shop", servers, **strict)
    settle(roads, {"a": 1.0, "b": 0.0})
    manifests.write("orders", "shop", servers[1:], **strict)
    settle(roads, {"a": 0.0, "b": 0.0})
    manifests.write("orders", "shop", servers, **strict)
    settle(roads, {"a": 1.0, "b": 0.0})
