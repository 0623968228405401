"""Other versions beside this one, under load: upgrade and downgrade, old clients and new ones."""

import pytest

from harness.backends import Backends
from harness.client import Road
from harness.control_plane import printed_bootstrap
from harness.envoy import Envoy, aggregated
from harness.one_address import busiest_second
from harness.python_clients import native_client, trimtab_client
from harness.replicas import Replicas
from harness.traffic import Traffic
from harness.versions import oldest_python, source_of

pytestmark = pytest.mark.processes

MOVED_WITHIN_S = 30
EARLIER = {
    "the-first-day": "885b3f93a95a4c94289f8191acc01ae095c7021f",
    "2026-11-24": "3e7c7f43e2cc45c4e63cbc922718cf7977edec91",
}


class Stage:
    """Replicas behind one address, and clients that know that address only."""

    def __init__(self, manifests, started, directory):
        self.replicas = Replicas(manifests.path, started)
        self._started = started
        self._directory = directory
        self._clients = []

    def client(self, make, name, **how):
        """A client of Python that is a node of this name; ``how``: see ``python_clients``."""
        identity = (("node_id", name), ("namespace", "shop"))
        printed = printed_bootstrap("grpc", self.replicas.address, identity)
        made = self._started(make(printed, **how))
        self._clients.append((made, {name: Road("xds:///orders.shop:grpc")}))

    def envoys(self):
        """Two of them, behind the first client."""
        for transport in ("sotw", "delta"):
            name = f"envoy-{transport}"
            text = aggregated(name, self.replicas.address, transport)
            envoy = self._started(Envoy(name, text, self._directory))
            envoy.wait_ready()
            self._clients[0][1][name] = envoy.road("orders.shop:8080")

    @property
    def traffic(self):
        return Traffic(self._clients)

    def replace_all(self, load, nodes, **how):
        """Each replica by one of another kind; ``how``: see ``Replicas.add``.

        Clients come at most once for each replica that goes, and none twice within a second, if they weren't led to
        the one that goes: how many are is the moment's in which the address learns of it.
        """
        before = len(self.replicas.arrivals)
        for old in tuple(self.replicas.running):
            since = len(self.replicas.arrivals)
            new = self.replicas.add(**how)
            self.replicas.remove(old)  # asserts that nobody had rejected anything
            self.replicas.wait_connected(nodes, within=MOVED_WITHIN_S)
            new.wait_acked()
            load.goes_on(5)
            assert busiest_second(self.replicas.arrivals[since:]) <= len(nodes)
        came = len(self.replicas.arrivals) - before
        assert came <= 2 * len(nodes), f"{came} connections by {nodes}"


@pytest.fixture
def stage(manifests, started, tmp_path):
    return Stage(manifests, started, tmp_path)


@pytest.mark.parametrize("revision", EARLIER.values(), ids=EARLIER)
def test_an_upgrade_and_the_way_back_cost_no_request_of_clients_of_either_version(
    stage, orders, backends, manifests, tmp_path, revision
):
    a, b = orders.values()
    c, d = backends.open("c", "d")
    (tmp_path / "old").mkdir()
    old = source_of(revision, tmp_path / "old")
    for _ in range(2):
        stage.replicas.add(source=old)
    stage.client(native_client, "native")
    stage.client(trimtab_client, "trimtab")
    stage.client(trimtab_client, "trimtab-old", env={"PYTHONPATH": str(old)})
    stage.envoys()
    nodes = stage.traffic.nodes
    with stage.traffic.load() as load:
        load.comes_from("a", "b")
        stage.replicas.wait_connected(nodes, within=MOVED_WITHIN_S)
        stage.replace_all(load, nodes)
        manifests.write("orders", "shop", [a.draining(), b, c])
        load.comes_from("b", "c", within=MOVED_WITHIN_S)
        stage.replace_all(load, nodes, source=old)
        manifests.write("orders", "shop", [b.draining(), c, d])
        load.comes_from("c", "d", within=MOVED_WITHIN_S)
        assert backends.close("a") == backends.close("b") == 0
        load.goes_on(5)


def test_the_oldest_libraries_and_the_newest_serve_each_other_without_a_failed_request(
    stage, backends, manifests, started
):
    """Control planes, clients and servers of both kinds, each with each."""
    python = oldest_python()
    (a,) = backends.open("a")
    (b,) = started(Backends(python=python)).open("b")
    (c,) = backends.open("c")
    manifests.write("orders", "shop", [a, b])
    for _ in range(2):
        stage.replicas.add(python=python)
    stage.client(native_client, "native")
    stage.client(native_client, "native-oldest", python=python)
    stage.client(trimtab_client, "trimtab")
    stage.client(trimtab_client, "trimtab-oldest", python=python)
    stage.envoys()
    nodes = stage.traffic.nodes
    with stage.traffic.load() as load:
        load.comes_from("a", "b")
        stage.replicas.wait_connected(nodes, within=MOVED_WITHIN_S)
        stage.replace_all(load, nodes)
        manifests.write("orders", "shop", [a.draining(), b, c])
        load.comes_from("b", "c", within=MOVED_WITHIN_S)
        stage.replace_all(load, nodes, python=python)
        manifests.write("orders", "shop", [a, b])
        load.comes_from("a", "b", within=MOVED_WITHIN_S)
