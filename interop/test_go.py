"""Go's gRPC (``google.golang.org/grpc/xds``) against ``trimtab serve``."""

from pathlib import Path

import pytest
from xds_client_contract import *  # noqa: F403 - the tests

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
