"""Java's gRPC (``io.grpc:grpc-xds``) against ``trimtab serve``."""

from pathlib import Path

import pytest
from xds_client_contract import *  # noqa: F403 - the tests

from harness.client import Client

pytestmark = pytest.mark.processes

BUILT = Path(__file__).parents[1] / ".cache" / "interop" / "java"
# The client does little; what costs is the JVM's own compiling.
OPTIONS = ("-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


@pytest.fixture
def client(control_plane, started):
    """A Java client with the bootstrap that ``trimtab bootstrap`` prints."""
    if not (BUILT / "libraries").exists():
        raise AssertionError(f"{BUILT} is not built: `make interop` does it")
    printed = control_plane.bootstrap("grpc", node_id="java", namespace="shop")
    path = f"{BUILT}/classes:{BUILT}/libraries/*"
    command = ["java", *OPTIONS, "-cp", path, "dev.trimtab.interop.Main"]
    return started(Client("java", command, env={"GRPC_XDS_BOOTSTRAP_CONFIG": printed}))
