"""Go's gRPC in the place of the roads of tests/native: a module imports those tests and ``traffic``."""

import pytest

from harness.client import Road
from harness.go_client import go_client
from harness.traffic import Traffic


@pytest.fixture
def traffic(control_plane, started):
    printed = control_plane.bootstrap("grpc", node_id="go", namespace="shop")
    return Traffic([(started(go_client(printed)), {"go": Road("xds:///orders.shop:grpc")})])
