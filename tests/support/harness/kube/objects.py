"""Kubernetes objects of the tests, as documents."""


def service(name, namespace, *, ports=(("grpc", 8080, 50051),), selector=True, **fields):
    """A Service.

    Args:
        ports: name, port, target port.
        selector: whether the endpointslice controller writes its slices, for pods ``app: NAME``.
        fields: ``annotations`` and ``labels``; the rest goes into ``spec``.
    """
    metadata = {"name": name, "namespace": namespace}
    metadata |= {k: fields.pop(k) for k in ("annotations", "labels") if k in fields}
    spec = {"ports": [{"name": n, "port": p, "targetPort": t} for n, p, t in ports]}
    if selector:
        spec["selector"] = {"app": name}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec | fields}


def endpoint_slice(name, namespace, addresses, *, of, ports=(("grpc", 50051),), conditions=None):
    """A slice that no controller owns: one ready endpoint per address."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": of},
        },
        "addressType": "IPv4",
        "ports": [{"name": n, "port": p, "protocol": "TCP"} for n, p in ports],
        "endpoints": [
            {"addresses": [address], "conditions": conditions or {"ready": True}}
            for address in addresses
        ],
    }


def node(zone):
    """A node, as the endpointslice controller needs it to know a pod's zone."""
    labels = {"topology.kubernetes.io/zone": zone, "topology.kubernetes.io/region": "r1"}
    metadata = {"name": f"node-{zone}", "labels": labels}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata}


def node_status():
    return {
        "status": {
            "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"},
            "capacity": {"cpu": "4", "memory": "8Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}],
        }
    }


def pod(name, namespace, *, app, zone, ports=(("grpc", 50051),)):
    """A pod bound to the node of its zone; nobody runs it but the test."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": app}},
        "spec": {
            "nodeName": f"node-{zone}",
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": "server",
                    "image": "example.invalid/server",
                    "ports": [{"name": n, "containerPort": p} for n, p in ports],
                }
            ],
        },
    }


def pod_status(addresses, *, ready):
    """What a kubelet would say of it."""
    state = "True" if ready else "False"
    return {
        "status": {
            "phase": "Running",
            "podIP": addresses[0],
            "podIPs": [{"ip": a} for a in addresses],
            "conditions": [
                {"type": "Ready", "status": state},
                {"type": "ContainersReady", "status": state},
            ],
        }
    }


def namespace(name):
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def service_account(name, inside):
    metadata = {"name": name, "namespace": inside}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
