"""Go's gRPC at a control plane that dies, comes back, and comes back slowly."""

from go_traffic import traffic
from tests.native.test_control_plane_loss import *  # noqa: F403 - the tests

__all__ = ["traffic"]
