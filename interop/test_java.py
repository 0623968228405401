"""Java's gRPC (``io.grpc:grpc-xds``) against ``trimtab serve``."""

from pathlib import Path

import pytest
from xds_client_contract import *  # noqa: F403 - the tests

from harness.client import Client

pytestmark = pytest.mark.processes

BUILT = Path(__file__).parents[1] / ".cache" / "interop" / "java"
# The client does little; what costs is the JVM's own compiling.
OPTIONS = ("-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


def command(library):
    """What starts the program with that library."""
    if not (BUILT / "libraries").exists():
        raise AssertionError(f"{BUILT} is not built: `make interop` does it")
    path = f"{BUILT}/classes:{BUILT}/libraries/*"
    return ["java", *OPTIONS, "-cp", path, "dev.trimtab.interop.Main", library]


@pytest.fixture
def client(control_plane, started):
    """A Java client with the bootstrap that ``trimtab bootstrap`` prints."""
    printed = control_plane.bootstrap("grpc", node_id="java", namespace="shop")
    environment = {"GRPC_XDS_BOOTSTRAP_CONFIG": printed}
    return started(Client("java", command("grpc"), env=environment))
