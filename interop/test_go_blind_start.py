"""Go's gRPC at a control plane that starts without its API server."""

from go_traffic import traffic
from tests.native.test_blind_start import *  # noqa: F403 - the tests

__all__ = ["traffic"]
