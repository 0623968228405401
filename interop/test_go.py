"""Go's gRPC (``google.golang.org/grpc/xds``) against ``trimtab serve``."""

import pytest
from xds_client_contract import *  # noqa: F403 - the tests
from xds_client_contract import ORDERS

from harness.go_client import go_client

pytestmark = pytest.mark.processes


@pytest.fixture
def client(control_plane, started):
    """A Go client with the bootstrap that ``trimtab bootstrap`` prints."""
    return started(go_client(control_plane.bootstrap("grpc", node_id="go", namespace="shop")))


def test_go_balances_by_least_request(client, orders, backends, manifests):
    """The Cluster's list of policies has it before round robin; Go takes the first it knows."""
    slow = backends.open_slow("slow", by_ms=300)
    manifests.write("orders", "shop", [*orders.values(), slow])
    with client.load({"client": ORDERS}, rate=100) as load:
        load.comes_from("a", "b", "slow", within=20)
        before = load.served()["client"]
        load.goes_on(400)
        served = load.served()["client"] - before
    # In turn it would be a third. 20 ms against 320 ms of work leave it a small part.
    assert served["slow"] < 0.2 * served.total(), served
