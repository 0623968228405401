"""Kubernetes objects as plain documents, and a view of what was discovered."""

from trimtab.discovery.kube_objects import decode
from trimtab.discovery.slices import SliceFold
from trimtab.model import Health, Problem, Removed


def service(name="orders", namespace="shop", ports=(("grpc", 8080),), annotations=None, **spec):
    """``ports``: (name, number) or whole mappings."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations or {}},
        "spec": {
            "ports": [
                p if isinstance(p, dict) else {"name": p[0], "port": p[1], "protocol": "TCP"}
                for p in ports
            ],
            **spec,
        },
    }


def endpoint(address, *, uid=None, zone=None, node=None, **conditions):
    made = {"addresses": [address]}
    if conditions:
        made["conditions"] = conditions
    if uid:
        made["targetRef"] = {"kind": "Pod", "name": f"pod-{uid}", "uid": uid}
    if zone:
        made["zone"] = zone
    if node:
        made["nodeName"] = node
    return made


def endpoint_slice(
    name, *endpoints, of="orders", namespace="shop", ports=(("grpc", 50051),), stamp=None, **fields
):
    """Endpoints are addresses or mappings; ``ports`` as for ``service``."""
    metadata = {"name": name, "namespace": namespace}
    if of:
        metadata["labels"] = {"kubernetes.io/service-name": of}
    if stamp:
        metadata["annotations"] = {"endpoints.kubernetes.io/last-change-trigger-time": stamp}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": "IPv4",
        "ports": [
            p if isinstance(p, dict) else {"name": p[0], "port": p[1], "protocol": "TCP"}
            for p in ports
        ],
        "endpoints": [endpoint(e) if isinstance(e, str) else e for e in endpoints],
        **fields,
    }


class Folded:
    """A fold with what followed from it: the state that a reader of its events has."""

    def __init__(self, *documents, **options):
        self.problems = []
        self.fold = SliceFold(self.problems.append, **options)
        self.clusters = {}
        self.events = []
        self.add(*documents)

    def add(self, *documents):
        for document in documents:
            obj = decode(document)
            assert obj is not None
            assert not isinstance(obj, Problem), obj
            self.take(self.fold.apply(obj))
        return self

    def delete(self, document):
        kind = type(decode(document))
        meta = document["metadata"]
        self.take(self.fold.delete(kind, meta["namespace"], meta["name"]))
        return self

    def take(self, events):
        self.events = events
        for event in events:
            if isinstance(event, Removed):
                del self.clusters[event.cluster]
            else:
                self.clusters[event.snapshot.cluster] = event.snapshot

    def targets(self, cluster="orders.shop:8080", health=None):
        return [
            e.target
            for e in self.clusters[cluster].endpoints
            if health is None or e.health is health
        ]

    def ready(self, cluster="orders.shop:8080"):
        return self.targets(cluster, Health.READY)
