"""The control plane dies, comes back, comes back slowly: no request is lost on any road."""

import os
from itertools import cycle, islice
from random import Random

import pytest

from harness.traffic import ABSENCE_S
from harness.waiting import Unmet, eventually, pause

pytestmark = pytest.mark.processes

RETURN_WITHIN_S = 30  # clients back off for some seconds when their control plane is away
LATE_RETURN_WITHIN_S = 150 if ABSENCE_S else RETURN_WITHIN_S  # native gRPC: two minutes at last


@pytest.mark.timeout(120 + 3 * ABSENCE_S)
def test_a_killed_control_plane_costs_no_request_and_is_followed_again_when_it_is_back(
    traffic, orders, control_plane, backends, manifests
):
    (c,) = backends.open("c")
    with traffic.load() as load:
        load.comes_from("a", "b")
        control_plane.kill()
        load.goes_without(10)
        manifests.write("orders", "shop", [*orders.values(), c])
        load.goes_on(5)
        control_plane.start()
        load.comes_from("a", "b", "c", within=LATE_RETURN_WITHIN_S)
        manifests.write("orders", "shop", [c])
        load.comes_from("c")


def test_an_orderly_restart_costs_no_request(traffic, control_plane):
    with traffic.load() as load:
        load.comes_from("a", "b")
        assert control_plane.terminate() == 0
        control_plane.start()
        control_plane.wait_clients(*traffic.nodes, within=RETURN_WITHIN_S)
        control_plane.wait_acked()
        load.comes_from("a", "b")


def test_a_restart_with_a_slow_source_costs_no_request(
    traffic, orders, control_plane, backends, manifests
):
    (c,) = backends.open("c")
    with traffic.load() as load:
        load.comes_from("a", "b")
        control_plane.kill()
        manifests.write("orders", "shop", [*orders.values(), c])
        manifests.put_what_takes_seconds_to_read()
        control_plane.start_silent()
        control_plane.wait_clients(*traffic.nodes, within=RETURN_WITHIN_S)
        assert control_plane.get("/readyz")[0] == 503
        load.comes_from("a", "b")
        assert control_plane.get("/readyz")[0] == 503
        control_plane.wait_ready()
        load.comes_from("a", "b", "c")


def test_a_restart_onto_a_broken_manifest_costs_no_request(
    traffic, orders, control_plane, manifests
):
    with traffic.load() as load:
        load.comes_from("a", "b")
        control_plane.kill()
        manifests.put("shop-orders.yaml", "kind: [Service\n")
        control_plane.start_silent()
        control_plane.wait_clients(*traffic.nodes, within=RETURN_WITHIN_S)
        load.goes_on(15)
        manifests.write("orders", "shop", [orders["b"]])
        control_plane.wait_ready()
        load.comes_from("b", within=RETURN_WITHIN_S)


class Kills:
    """Lives of one control plane, each ended by SIGKILL, at moments that a seed gives.

    Attributes:
        streams: those that clients opened, of all the lives that ended.
        expected: the fewest that there can have been, as each round waited for them.
    """

    def __init__(self, control_plane, manifests, nodes, seed):
        self._plane = control_plane
        self._manifests = manifests
        self._nodes = nodes
        self._random = Random(seed)
        self.streams = self.expected = 0

    def kill(self):
        self.streams += self._plane.metric("trimtab_streams_total")
        self._plane.kill()

    def all_come_back(self):
        """A life that serves, with everybody in it; what changes is up to the caller."""
        self._plane.start()
        self._wait_back(len(self._nodes))

    def some_come_back(self):
        """A life that serves, and ends while clients are coming back."""
        self._plane.start()
        self._wait_back(self._random.randrange(1, len(self._nodes) + 1))
        pause(self._random.uniform(0, 0.5))

    def some_come_back_to_silence(self):
        """A life that ends before it has read its sources, with clients that wait for it."""
        self._manifests.put_what_takes_seconds_to_read()
        self._plane.start_silent()
        self._wait_back(min(len(self._nodes), self._random.randrange(1, 3)))
        assert self._plane.get("/readyz")[0] == 503
        self._manifests.remove_what_takes_seconds_to_read()

    def _wait_back(self, fewest):
        def look():
            back = {client["node"] for client in self._plane.clients()} & set(self._nodes)
            return len(back) >= fewest or Unmet(f"only {sorted(back)}")

        eventually(look, within=RETURN_WITHIN_S, what=f"{fewest} clients to come back")
        self.expected += fewest


def test_a_control_plane_that_is_killed_again_and_again_costs_no_request_and_is_found_again(
    traffic, orders, control_plane, backends, manifests, record_property
):
    """Three times here, one of each kind; ``TRIMTAB_KILLS=51`` with ``--timeout 3600`` is fifty-one."""
    pods = [*orders.values(), *backends.open("c")]
    serving = {"a", "b"}
    kills = Kills(control_plane, manifests, traffic.nodes, seed=11)
    rounds = cycle((kills.some_come_back, kills.some_come_back_to_silence, kills.all_come_back))
    with traffic.load() as load:
        load.comes_from(*serving)
        for come_back in islice(rounds, int(os.environ.get("TRIMTAB_KILLS", "3"))):
            kills.kill()
            load.goes_on(2)
            gone, *left = pods  # what only the next life can tell
            if come_back == kills.all_come_back:
                manifests.write("orders", "shop", left)
                pods = [*left, gone]
                serving = {pod.name for pod in left}
            come_back()
            load.goes_on(2)
            if come_back == kills.all_come_back:
                load.comes_from(*serving, within=RETURN_WITHIN_S)
    record_property("streams", kills.streams)
    assert kills.streams + control_plane.metric("trimtab_streams_total") >= kills.expected
