"""Clients of other languages against the control plane; the parts are those of tests/native."""

from harness.fixtures import addresses, backends, control_plane, limits, manifests, orders, started

__all__ = ["addresses", "backends", "control_plane", "limits", "manifests", "orders", "started"]
