"""The Kubernetes objects of the demo, as files that change as they would during a rollout.

One EndpointSlice per server, since they share an address and differ in port. Files are replaced by
rename, so that no reader sees half of one.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "orders"
NAMESPACE = "shop"
CLUSTER = f"{NAME}.{NAMESPACE}:grpc"


class PodState(enum.Enum):
    """What an EndpointSlice says of a pod."""

    STARTING = "starting"
    READY = "ready"


def service() -> dict[str, Any]:
    """The Service object."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": NAME,
            "namespace": NAMESPACE,
            # The demo's servers are warm at once, and its phases are short.
            "annotations": {"trimtab.dev/slow-start": "0"},
        },
        "spec": {
            "selector": {"app": NAME},
            "ports": [{"name": "grpc", "port": 8080, "targetPort": "grpc", "protocol": "TCP"}],
        },
    }


def endpoint_slice(pod: str, port: int, state: PodState) -> dict[str, Any]:
    """The EndpointSlice of one pod that listens on 127.0.0.1:``port``."""
    ready = state is PodState.READY
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": pod,
            "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": NAME},
        },
        "addressType": "IPv4",
        "ports": [{"name": "grpc", "port": port, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": ["127.0.0.1"],
                "conditions": {"ready": ready, "serving": ready, "terminating": False},
                "targetRef": {"kind": "Pod", "namespace": NAMESPACE, "name": pod, "uid": pod},
            }
        ],
    }


class Rollout:
    """Writes the manifests into a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._path = directory / f"{NAME}.json"

    def write(self, pods: Mapping[str, tuple[int, PodState]]) -> None:
        """These pods exist now: name to (port, state). Returns when the file is in place."""
        items = [service(), *(endpoint_slice(pod, *pods[pod]) for pod in sorted(pods))]
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=1)
        beside = self._path.with_suffix(".new")
        beside.write_text(text)
        beside.replace(self._path)
