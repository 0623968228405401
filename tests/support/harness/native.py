"""Native gRPC's own xDS client (C-core), in a process of its own."""

import sys
from pathlib import Path

from harness.client import Client

SUPPORT = Path(__file__).parent.parent


def native_client(bootstrap):
    """A client process with this standard gRPC bootstrap (JSON)."""
    command = [sys.executable, "-m", "harness.load_process"]
    return Client("native", command, cwd=SUPPORT, env={"GRPC_XDS_BOOTSTRAP_CONFIG": bootstrap})
