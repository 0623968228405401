"""Two replicas that don't know the same: clients go from one to the other and lose no request.

Each replica follows its source at its own pace, so that a client which changes replicas may be told
what it had a moment ago, or what it has yet to hear.
"""

import pytest

from harness.control_plane import ControlPlane, free_addresses, printed_bootstrap
from harness.fixtures import CONFIG
from harness.manifests import Manifests
from harness.one_address import OneAddress
from harness.waiting import Unmet, eventually

pytestmark = pytest.mark.processes

RETURN_WITHIN_S = 30  # clients back off for some seconds when their control plane is away


class Pair:
    """Two replicas behind one address, each with manifests of its own, which are what it knows."""

    def __init__(self, planes, manifests, front):
        self.planes = planes
        self.first, self.second = manifests
        self._front = front
        self.address = front.address

    def bootstrap(self, kind, **identity):
        return printed_bootstrap(kind, self.address, tuple(identity.items()))

    def move_to(self, *places, nodes):
        """Every connection is cut; from now on they lead to these replicas, in turn."""
        chosen = [self.planes[place] for place in places]
        self._front.lead_to(*(plane.address for plane in chosen))
        self._front.cut()

        def look():
            there = {client["node"] for plane in chosen for client in plane.clients()}
            return set(nodes) <= there or Unmet(f"without {sorted(set(nodes) - there)}")

        eventually(look, within=RETURN_WITHIN_S, what="a stream of every client")


@pytest.fixture
def control_plane(orders, limits, manifests, started, tmp_path):
    """Both replicas know both Services; the clients are at the first."""
    assert orders
    assert limits is None
    return replicas(started, tmp_path, manifests)


def replicas(started, tmp_path, manifests, *, unknown=""):
    """Two of them; the second has no file whose name has ``unknown`` in it."""
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    front = started(OneAddress())
    planes, known = [], []
    for name in ("first", "second"):
        directory = tmp_path / name
        directory.mkdir()
        known.append(Manifests(directory))
        for file in manifests.path.iterdir():
            if name == "first" or not unknown or unknown not in file.name:
                known[-1].put(file.name, file.read_text())
        planes.append(started(ControlPlane(free_addresses(), directory, config=config)))
        planes[-1].start()
    front.lead_to(planes[0].address)
    return Pair(planes, known, front)


def test_a_replica_that_lags_in_a_rollout_costs_no_request(
    traffic, control_plane, orders, backends
):
    a, b = orders.values()
    (c,) = backends.open("c")
    with traffic.load() as load:
        load.comes_from("a", "b")
        control_plane.first.write("orders", "shop", [a.draining(), b, c])
        load.comes_from("b", "c")
        control_plane.move_to(1, nodes=traffic.nodes)
        load.comes_from("a", "b")  # what it had before: they answer still
        control_plane.second.write("orders", "shop", [a.draining(), b, c])
        load.comes_from("b", "c")
        assert backends.close("a") == 0
        load.goes_on(5)


def test_clients_that_go_to_and_fro_between_two_views_lose_no_request(
    traffic, control_plane, orders, backends
):
    a, b = orders.values()
    (c,) = backends.open("c")
    control_plane.second.write("orders", "shop", [b, c])
    with traffic.load() as load:
        load.comes_from("a", "b")
        for places in ((1,), (0, 1), (0,), (1, 0)):
            control_plane.move_to(*places, nodes=traffic.nodes)
            load.goes_on(5)
        control_plane.first.write("orders", "shop", [b, c])
        load.comes_from("b", "c", within=RETURN_WITHIN_S)
        assert backends.close(a.name) == 0
        load.goes_on(5)


class TestLate:
    """The second replica has not heard of the Service at all."""

    @pytest.fixture
    def control_plane(self, orders, limits, manifests, started, tmp_path):
        assert orders
        assert limits is None
        return replicas(started, tmp_path, manifests, unknown="orders")

    def test_a_replica_that_does_not_know_the_service_yet_costs_no_request(
        self, traffic, control_plane, orders
    ):
        with traffic.load() as load:
            load.comes_from("a", "b")
            control_plane.move_to(1, nodes=traffic.nodes)
            load.goes_on(10)
            control_plane.second.write("orders", "shop", [orders["b"]])
            load.comes_from("b", within=RETURN_WITHIN_S)
