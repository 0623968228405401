"""Go's gRPC in a process of its own."""

from pathlib import Path

from harness.client import Client

PROGRAM = Path(__file__).parents[3] / ".cache" / "interop" / "go-client"


def go_client(bootstrap, **environment):
    """A Go client with this standard gRPC bootstrap (JSON) and further environment variables."""
    if not PROGRAM.exists():
        raise AssertionError(f"{PROGRAM} is not built: `make interop` does it")
    return Client("go", [PROGRAM], env={"GRPC_XDS_BOOTSTRAP_CONFIG": bootstrap, **environment})
