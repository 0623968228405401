"""Go's gRPC (``google.golang.org/grpc/xds``) against ``trimtab serve``."""

from pathlib import Path

import pytest
from xds_client_contract import *  # noqa: F403 - the tests
from xds_client_contract import ORDERS

from harness.client import Client

pytestmark = pytest.mark.processes

PROGRAM = Path(__file__).parents[1] / ".cache" / "interop" / "go-client"


def started_client(control_plane, started, **environment):
    if not PROGRAM.exists():
        raise AssertionError(f"{PROGRAM} is not built: `make interop` does it")
    printed = control_plane.bootstrap("grpc", node_id="go", namespace="shop")
    environment["GRPC_XDS_BOOTSTRAP_CONFIG"] = printed
    return started(Client("go", [PROGRAM], env=environment))


@pytest.fixture
def client(control_plane, started):
    """A Go client with the bootstrap that ``trimtab bootstrap`` prints."""
    return started_client(control_plane, started)


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
