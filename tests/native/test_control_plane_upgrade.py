"""Two replicas behind one address are replaced one after the other, as a Deployment does it."""

import pytest

from harness.client import Road
from harness.control_plane import printed_bootstrap
from harness.envoy import Envoy, aggregated
from harness.python_clients import native_client, trimtab_client
from harness.replicas import Replicas
from harness.traffic import Traffic

pytestmark = pytest.mark.processes

MOVED_WITHIN_S = 30
NODES = ("native", "trimtab", "envoy-sotw", "envoy-delta")


@pytest.fixture
def replicas(manifests, started):
    made = Replicas(manifests.path, started)
    made.add()
    made.add()
    return made


@pytest.fixture
def traffic(replicas, started, tmp_path):
    """Native gRPC, trimtab's client and two Envoys, which know the one address only."""

    def bootstrap(node):
        return printed_bootstrap(
            "grpc", replicas.address, (("node_id", node), ("namespace", "shop"))
        )

    direct = Road("xds:///orders.shop:grpc")
    roads = {"native": direct}
    for transport in ("sotw", "delta"):
        name = f"envoy-{transport}"
        envoy = started(Envoy(name, aggregated(name, replicas.address, transport), tmp_path))
        envoy.wait_ready()
        roads[name] = envoy.road("orders.shop:8080")
    return Traffic(
        [
            (started(trimtab_client(bootstrap("trimtab"))), {"trimtab": direct}),
            (started(native_client(bootstrap("native"))), roads),
        ]
    )


@pytest.mark.usefixtures("orders")
def test_replacing_both_replicas_costs_no_request_and_each_client_reconnects_once_per_replica(
    replicas, traffic, orders, backends, manifests
):
    with traffic.load() as load:
        load.comes_from("a", "b")
        replicas.wait_connected(NODES, within=MOVED_WITHIN_S)
        before = len(replicas.arrivals)
        streams = len(replicas.clients())
        for old in tuple(replicas.running):
            new = replicas.add()
            replicas.remove(old)
            replicas.wait_connected(NODES, within=MOVED_WITHIN_S)
            new.wait_acked()
            load.goes_on(5)
        reconnected = len(replicas.arrivals) - before
        sent = sum(
            plane.metric("trimtab_responses_total", type="EDS") for plane in replicas.running
        )
        (c,) = backends.open("c")
        manifests.write("orders", "shop", [*orders.values(), c])
        load.comes_from("a", "b", "c", within=MOVED_WITHIN_S)
    # At most once for each replica that went, and no client comes again and again.
    assert reconnected <= 2 * streams, f"{reconnected} connections by {streams} clients"
    assert sent <= reconnected


@pytest.mark.usefixtures("orders")
def test_a_node_with_a_replica_and_a_third_of_the_pods_goes_without_a_failed_request(
    replicas, traffic, orders, backends, manifests
):
    (c,) = backends.open("c")
    a, b = orders.values()
    manifests.write("orders", "shop", [a, b, c])
    with traffic.load() as load:
        load.comes_from("a", "b", "c")
        replicas.wait_connected(NODES, within=MOVED_WITHIN_S)
        manifests.write("orders", "shop", [a, b, c.draining()])
        replicas.remove(replicas.running[0])
        load.comes_from("a", "b", within=MOVED_WITHIN_S)
        assert backends.close("c") == 0
        manifests.write("orders", "shop", [a, b])
        replicas.add()
        replicas.wait_connected(NODES, within=MOVED_WITHIN_S)
        load.goes_on(10)
