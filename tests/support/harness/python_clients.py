"""Python clients, each in a process of its own: native gRPC's own (C-core), trimtab's, and plain HTTP/1.1."""

import sys
from pathlib import Path

from harness.client import Client

SUPPORT = Path(__file__).parent.parent


def native_client(bootstrap, *, env=None, python=None):
    """Native gRPC with this standard gRPC bootstrap (JSON) and further environment variables.

    ``python`` is another interpreter.
    """
    return _client("native", "grpc.aio", bootstrap, env or {}, python)


def trimtab_client(bootstrap, *, env=None, python=None):
    """trimtab's channel in place of the native one; arguments as above."""
    return _client("trimtab", "trimtab.aio", bootstrap, env or {}, python)


def http1_client():
    """HTTP/1.1 without any balancing."""
    return _started("http1", "http1", {})


def trimtab_client_of(env):
    """trimtab's channel, told by its environment alone where it is and whom it asks."""
    return _started("trimtab", "trimtab.aio", env)


def _client(name, library, bootstrap, env, python):
    return _started(name, library, {"GRPC_XDS_BOOTSTRAP_CONFIG": bootstrap, **env}, python)


def _started(name, library, env, python=None):
    command = [python or sys.executable, "-m", "harness.load_process", library]
    return Client(name, command, cwd=SUPPORT, env=env)
