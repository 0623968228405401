"""What the flows through real processes begin with."""

import json

import pytest

from harness.fixtures import (
    addresses,
    backends,
    control_plane,
    limits,
    manifests,
    orders,
    servers_process,
    started,
)
from harness.waiting import eventually

__all__ = [
    "addresses",
    "backends",
    "control_plane",
    "limits",
    "manifests",
    "orders",
    "servers_process",
    "started",
]


@pytest.fixture
def shop(manifests, orders, backends, control_plane):
    """Says which pods ``orders.shop`` has, and waits until the control plane knows."""
    del orders  # it made the Service; its pods are not used

    def publish(*pods, **extra):
        manifests.write("orders", "shop", pods, **extra)
        eventually(
            lambda: len(control_plane.endpoints("orders.shop:8080")["endpoints"]) == len(pods),
            within=10,
            what=f"the control plane knows {len(pods)} pods",
        )

    return publish


@pytest.fixture
def bootstrap(control_plane):
    return json.loads(control_plane.bootstrap("grpc", node_id="zones", namespace="shop"))
