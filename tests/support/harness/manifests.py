"""Ordinary Kubernetes objects in a directory, replaced as editors and kubelets do: by rename."""

from dataclasses import dataclass, replace

import yaml

# Objects of other kinds, as a dump of a namespace has: 10 MB take some seconds to read.
_BULKY = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: bulky, namespace: shop}\ndata:\n"
_BULKY_FILE = "bulky.yaml"
_BULKY_KEYS, _BULKY_OBJECTS = 1_000, 400


@dataclass(frozen=True)
class Pod:
    """One endpoint of a slice."""

    name: str
    port: int
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zone: str = "z1"
    labels: tuple[tuple[str, str], ...] = ()
    node: str = ""

    def draining(self):
        """As Kubernetes shows a pod that was deleted and still answers."""
        return replace(self, ready=False, terminating=True)


@dataclass
class Manifests:
    """The directory behind ``--manifests``."""

    path: object

    def write(self, service, namespace, pods, *, port=8080, port_name="grpc", **extra):
        """Write ``SERVICE.NAMESPACE`` with these pods, in place of what was there.

        Args:
            extra: ``annotations``, ``headless``, ``app_protocol``, ``distribution``.

        Pods with labels get an object of their own.
        """
        documents = [
            _service(service, namespace, port, port_name, **extra),
            *(
                _slice(service, namespace, port_name, number, pod)
                for number, pod in enumerate(pods)
            ),
            *(_pod(namespace, pod) for pod in pods if pod.labels),
        ]
        self.put(f"{namespace}-{service}.yaml", yaml.safe_dump_all(documents, sort_keys=False))

    def put(self, name, text):
        """Put a file there in one step."""
        draft = self.path / f".{name}.draft"
        draft.write_text(text)
        draft.replace(self.path / name)

    def put_what_takes_seconds_to_read(self):
        """Put a large file there that says nothing of Services."""
        keys = "".join(f"  key-{n}: value of key number {n}\n" for n in range(_BULKY_KEYS))
        self.put(_BULKY_FILE, (_BULKY + keys) * _BULKY_OBJECTS)

    def remove_what_takes_seconds_to_read(self):
        (self.path / _BULKY_FILE).unlink()


def _service(
    name,
    namespace,
    port,
    port_name,
    *,
    annotations=None,
    headless=False,
    app_protocol=None,
    distribution=None,
):
    entry = {"name": port_name, "port": port, "targetPort": port_name}
    if app_protocol:
        entry["appProtocol"] = app_protocol
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations or {}},
        "spec": {
            "clusterIP": "None" if headless else "10.96.0.10",
            "selector": {"app": name},
            "ports": [entry],
            **({"trafficDistribution": distribution} if distribution else {}),
        },
    }


def _pod(namespace, pod):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod.name,
            "namespace": namespace,
            "uid": f"uid-{pod.name}",
            "labels": dict(pod.labels),
        },
    }


def _slice(service, namespace, port_name, number, pod):
    """One slice per pod: the pods of a test share an address and differ in their port."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service}-{number}",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"name": port_name, "port": pod.port, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": ["127.0.0.1"],
                "conditions": {
                    "ready": pod.ready,
                    "serving": pod.serving,
                    "terminating": pod.terminating,
                },
                "zone": pod.zone,
                **({"nodeName": pod.node} if pod.node else {}),
                "targetRef": {
                    "kind": "Pod",
                    "name": pod.name,
                    "namespace": namespace,
                    "uid": f"uid-{pod.name}",
                },
            }
        ],
    }
