"""Node's gRPC (``@grpc/grpc-js-xds``) against ``trimtab serve``."""

from pathlib import Path

import pytest
from xds_client_contract import (  # noqa: F401 - the tests that it can pass
    MISSING,
    test_a_control_plane_that_goes_and_comes_costs_no_request,
    test_a_pod_that_fails_is_left_out_and_the_only_one_never,
    test_a_service_that_was_unknown_is_reached_once_it_exists,
    test_changes_are_followed_under_load_without_an_error,
    test_every_configuration_is_accepted_and_every_endpoint_gets_requests,
    test_everything_that_is_sent_is_accepted,
)

from harness.client import Client, Road

pytestmark = pytest.mark.processes

FOLDER = Path(__file__).parent / "node"
# None with a port's name: grpc-js can't dial those.
NAMES = (
    "orders.shop:8080",
    "orders.shop",
    "orders.shop.svc.cluster.local",
    "orders",
    "orders-eds",
)


@pytest.fixture
def client(control_plane, started):
    """A Node client with the bootstrap that ``trimtab bootstrap`` prints."""
    if not (FOLDER / "node_modules").exists():
        raise AssertionError(f"{FOLDER} is not installed: `make interop` does it")
    printed = control_plane.bootstrap("grpc", node_id="node", namespace="shop")
    environment = {"GRPC_XDS_BOOTSTRAP_CONFIG": printed}
    return started(Client("node", ["node", "client.mjs"], cwd=FOLDER, env=environment))


@pytest.mark.parametrize("name", NAMES)
def test_a_service_answers_to_its_names_without_a_named_port(client, name):
    answer = client.call(Road(f"xds:///{name}"))
    assert answer.server in {"a", "b"}, answer


def test_an_unknown_service_fails_within_a_second(client, control_plane):
    answer = client.call(MISSING, within=5)
    assert answer.error.startswith("UNAVAILABLE"), answer
    assert answer.seconds < 1
    # grpc-js has a text of its own; which name it was stands in the control plane's list.
    (stream,) = control_plane.clients()
    assert {r["name"]: r["state"] for r in stream["resources"]} == {"missing.shop:8080": "absent"}
