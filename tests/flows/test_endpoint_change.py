"""One endpoint change, whole and in memory: from a slice's event to the next pick."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.balancer import Balancer
from trimtab.discovery.kube_objects import EndpointSlice, decode
from trimtab.discovery.slices import SliceFold
from trimtab.errors import NoEndpoints
from trimtab.model import Health, Synced
from trimtab.policies import Outcome
from trimtab.testing import FakeClock
from trimtab.xds.catalog import Catalog
from trimtab.xds.client_session import Absent, ClientSession, NodeInfo, Rejected, Resolved
from trimtab.xds.server_session import ServerSession

SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "orders", "namespace": "shop"},
    "spec": {"ports": [{"name": "grpc", "port": 8080, "protocol": "TCP"}]},
}


def endpoint_slice(name, *pods, port=50051):
    """Pods are addresses, or (address, conditions)."""
    endpoints = [(pod, {"ready": True}) if isinstance(pod, str) else pod for pod in pods]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "labels": {"kubernetes.io/service-name": "orders"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "grpc", "port": port, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": [address],
                "conditions": conditions,
                "zone": "eu-1",
                "nodeName": "node-1",
                "targetRef": {"kind": "Pod", "name": address, "uid": f"uid-{address}"},
            }
            for address, conditions in endpoints
        ],
    }


class Chain:
    """Every room between Kubernetes and a request, wired back to back."""

    def __init__(self, name="orders.shop:grpc", *, synced=True):
        self.problems = []
        self.fold = SliceFold(self.problems.append)
        self.catalog = Catalog()
        if synced:
            self.catalog.apply(Synced())
        self.server = ServerSession(self.catalog, delta=False)
        self.client = ClientSession(node=NodeInfo(id="flow"))
        self.balancer = Balancer(name, clock=FakeClock(), random=Random(1))
        self.verdicts = []
        self.client.watch(name)
        self.client.connected()
        self.settle()

    def apply(self, document):
        self._take(self.fold.apply(decode(document, "test")))

    def delete(self, name):
        self._take(self.fold.delete(EndpointSlice, "shop", name))

    def sync(self):
        self.catalog.apply(Synced())
        self.server.changed(self.catalog.clusters())
        self.settle()

    def _take(self, events):
        for event in events:
            self.server.changed(self.catalog.apply(event))
        self.settle()

    def settle(self):
        """Carry messages both ways until both sides are silent."""
        for _ in range(100):
            requests = self.client.take_requests()
            for request in requests:
                self.server.receive(request)
            response = self.server.next_response()
            if response is None and not requests:
                return
            if response is not None:
                for verdict in self.client.receive(response):
                    self.verdicts.append(verdict)
                    if isinstance(verdict, Resolved):
                        self.balancer.update(verdict.snapshot)
        raise AssertionError("the sessions never fall silent")

    def picks(self, count=200):
        counts = Counter()
        for _ in range(count):
            pick = self.balancer.pick()
            counts[pick.node.endpoint.address] += 1
            pick.finish(Outcome.SUCCESS)
        return counts


def test_a_new_pod_gets_requests_and_a_deleted_one_does_not():
    chain = Chain()
    chain.apply(SERVICE)
    chain.apply(endpoint_slice("orders-a", "10.0.0.1"))
    assert set(chain.picks()) == {"10.0.0.1"}
    chain.apply(endpoint_slice("orders-a", "10.0.0.1", "10.0.0.2"))
    assert set(chain.picks()) == {"10.0.0.1", "10.0.0.2"}
    chain.apply(endpoint_slice("orders-a", "10.0.0.2"))
    assert set(chain.picks()) == {"10.0.0.2"}
    assert chain.problems == []


def test_a_terminating_pod_finishes_its_request_but_gets_no_new_one():
    chain = Chain()
    chain.apply(SERVICE)
    chain.apply(endpoint_slice("orders-a", "10.0.0.1"))
    pick = chain.balancer.pick()
    leaving = {"ready": False, "serving": True, "terminating": True}
    chain.apply(endpoint_slice("orders-a", ("10.0.0.1", leaving), "10.0.0.2"))
    assert set(chain.picks()) == {"10.0.0.2"}
    assert chain.balancer.nodes["10.0.0.1", 50051].endpoint.health is Health.DRAINING
    assert chain.balancer.in_flight == 1
    pick.finish(Outcome.SUCCESS)
    assert chain.balancer.in_flight == 0


def test_one_slice_is_not_the_service():
    chain = Chain()
    chain.apply(SERVICE)
    chain.apply(endpoint_slice("orders-a", *(f"10.0.0.{i}" for i in range(1, 101))))
    chain.apply(endpoint_slice("orders-b", *(f"10.0.1.{i}" for i in range(1, 51))))
    assert len(chain.balancer.nodes) == 150
    chain.delete("orders-a")
    assert len(chain.balancer.nodes) == 50


def test_a_pod_that_stays_keeps_what_is_known_of_it():
    chain = Chain()
    chain.apply(SERVICE)
    chain.apply(endpoint_slice("orders-a", "10.0.0.1"))
    node = chain.balancer.nodes["10.0.0.1", 50051]
    chain.apply(endpoint_slice("orders-a", "10.0.0.1", "10.0.0.2"))
    assert chain.balancer.nodes["10.0.0.1", 50051] is node


def test_everything_about_a_pod_arrives():
    chain = Chain()
    chain.apply(SERVICE)
    chain.apply(endpoint_slice("orders-a", "10.0.0.1"))
    (served,) = chain.catalog.clusters()["orders.shop:8080"].endpoints
    (received,) = chain.balancer.snapshot.endpoints
    assert received == served
    assert (received.locality.zone, received.node, received.uid) == (
        *("eu-1", "node-1"),
        "uid-10.0.0.1",
    )


def test_nothing_is_said_before_the_source_is_synced():
    chain = Chain(synced=False)
    chain.apply(SERVICE)
    chain.apply(endpoint_slice("orders-a", "10.0.0.1"))
    assert chain.verdicts == []
    chain.sync()
    assert set(chain.picks(20)) == {"10.0.0.1"}


def test_a_service_without_pods_is_empty_and_one_that_does_not_exist_is_absent():
    chain = Chain()
    assert [type(v) for v in chain.verdicts] == [Absent]
    chain.apply(SERVICE)
    assert isinstance(chain.verdicts[-1], Resolved)
    with pytest.raises(NoEndpoints, match="no endpoints"):
        chain.balancer.pick()


def test_an_unchanged_slice_makes_no_traffic():
    chain = Chain()
    chain.apply(SERVICE)
    chain.apply(endpoint_slice("orders-a", "10.0.0.1"))
    seen = len(chain.verdicts)
    chain.apply(endpoint_slice("orders-a", "10.0.0.1"))
    assert len(chain.verdicts) == seen


CONDITIONS = [
    {"ready": True},
    {},
    {"ready": False, "serving": True, "terminating": True},
    {"ready": False, "serving": False},
]
POD = st.tuples(st.integers(1, 6).map(lambda i: f"10.0.0.{i}"), st.sampled_from(CONDITIONS))
EVENT = st.tuples(
    st.sampled_from(["orders-a", "orders-b", "orders-c"]),
    st.none() | st.lists(POD, max_size=5, unique_by=lambda pod: pod[0]),
)


@given(st.lists(EVENT, max_size=12))
def test_whatever_happens_the_client_ends_with_what_the_control_plane_has(events):
    chain = Chain()
    chain.apply(SERVICE)
    for name, pods in events:
        if pods is None:
            chain.delete(name)
        else:
            chain.apply(endpoint_slice(name, *pods))
    assert not any(isinstance(verdict, Rejected) for verdict in chain.verdicts)
    served = chain.catalog.clusters()["orders.shop:8080"]
    assert chain.balancer.snapshot == served
    usable = {endpoint.address for endpoint in served.usable()}
    if usable:
        assert set(chain.picks(50)) <= usable
    else:
        with pytest.raises(NoEndpoints):
            chain.balancer.pick()
