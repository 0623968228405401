"""Native gRPC that is known by its token, with the bootstrap that is printed for it."""

import pytest

from harness.client import Road
from harness.python_clients import native_client
from harness.with_tokens import SWITCH, bootstrap_with_token

pytestmark = pytest.mark.processes

ORDERS = Road("xds:///orders.shop:grpc")


@pytest.fixture
def bootstrap(addresses, orders, manifests, started, tmp_path):
    """Of a client that the control plane knows."""
    assert orders
    return bootstrap_with_token(addresses, manifests, started, tmp_path)


def test_native_grpc_sends_its_token_once_its_switch_for_that_is_on(bootstrap, started):
    with started(native_client(bootstrap, env=SWITCH)).load({"native": ORDERS}, rate=50) as load:
        load.comes_from("a", "b")


def test_without_the_switch_the_error_says_what_is_missing(bootstrap, started):
    answer = started(native_client(bootstrap)).call(ORDERS)
    assert answer.server is None
    assert "a token is needed" in answer.error
