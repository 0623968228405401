"""Clients of other languages against the control plane; the parts are those of tests/native."""

from harness.fixtures import backends, control_plane, limits, manifests, orders, started

__all__ = ["backends", "control_plane", "limits", "manifests", "orders", "started"]
