"""A namespace of a test: its Services, and pods whose servers are real."""

from dataclasses import dataclass, field
from itertools import count

from harness.kube import objects

# Addresses of pods, from those of interop/private_network; 10.77.0.* are API servers.
_hosts = count(256)
_hosts_v6 = count(0)
V6_HOSTS = 20


def next_address():
    number = next(_hosts)
    return f"10.77.{number >> 8}.{number & 255}"


def next_address_v6():
    return f"fd77::{next(_hosts_v6) % V6_HOSTS + 1}"


@dataclass(frozen=True)
class Pod:
    """A pod and its server.

    Attributes:
        name: the server's name too.
        document: as the API server has it.
        addresses: of the pod; the first is the primary one.
    """

    name: str
    document: dict = field(repr=False)
    addresses: tuple


class Space:
    """A namespace.

    Args:
        name: the namespace's.
        api: the administrator's.
        backends: where the pods' servers run.
        controlled: whether the endpointslice controller runs. Without it each pod has a slice of
            its own, which this class writes at once.
    """

    def __init__(self, name, api, backends, *, controlled=True):
        self.name = name
        self._controlled = controlled
        self._api = api
        self._backends = backends
        api.create(objects.namespace(name))
        # The controller that makes it doesn't run, and no pod may be without it.
        api.create(objects.service_account("default", name))

    def service(self, name="orders", **fields):
        """Create a Service (arguments as of ``objects.service``)."""
        selector = fields.pop("selector", self._controlled)
        return self._api.create(objects.service(name, self.name, selector=selector, **fields))

    def slice(self, name, addresses, **fields):
        """Create a slice of the test's own (arguments as of ``objects.endpoint_slice``)."""
        return self._api.create(objects.endpoint_slice(name, self.name, addresses, **fields))

    def open(self, *names, of="orders", zone="z1", ready=True):
        """Start servers, each with a pod of that Service."""
        return [self.open_at(n, (next_address(),), of=of, zone=zone, ready=ready) for n in names]

    def open_at(
        self, name, addresses, *, of="orders", zone="z1", ready=True, ports=(("grpc", 50051),)
    ):
        """Start a server with these addresses and ports; its pod."""
        self._backends.open_at(name, *(_join(a, port) for a in addresses for _, port in ports))
        made = self._api.create(objects.pod(name, self.name, app=of, zone=zone, ports=ports))
        pod = Pod(name, made, tuple(addresses))
        self.set_ready(pod, ready=ready)
        if not self._controlled:
            self.slice(name, [pod.addresses[0]], of=of)
        return pod

    def set_ready(self, pod, *, ready):
        """What the pod's readiness probe says from now on."""
        status = objects.pod_status(pod.addresses, ready=ready)
        self._api.merge(pod.document, status, subresource="status")

    def drain(self, pod):
        """Delete the pod as ``kubectl delete`` does: it terminates, and its server answers on."""
        self._api.delete(pod.document, grace_s=300)

    def remove(self, pod):
        """The pod is gone for good. Its server lives; see ``close``."""
        self._api.delete(pod.document, grace_s=0)
        if not self._controlled:
            self._api.delete({**pod.document, "kind": "EndpointSlice"})

    def close(self, pod):
        """Stop the pod's server; how many requests were cut off."""
        return self._backends.close(pod.name)

    def cluster(self, service="orders", port=8080):
        """The canonical name of a port of a Service."""
        return f"{service}.{self.name}:{port}"

    def clear(self):
        """Delete what is in it; the namespace stays, since no namespace controller runs."""
        for kind in ("Service", "Pod", "EndpointSlice"):
            self._api.delete_all(kind, self.name)


def _join(address, port):
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
