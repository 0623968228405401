"""Go's gRPC between replicas that don't know the same."""

from go_traffic import traffic
from tests.native.test_replicas_differ import *  # noqa: F403 - the tests

__all__ = ["traffic"]
