"""Control planes and clients that fall silent without a goodbye: packets lost, or a process frozen.

All waits are those that users get: no setting is shortened.
"""

import contextlib
import json
from dataclasses import dataclass

import pytest

from harness.client import Client, Road
from harness.control_plane import ControlPlane, free_addresses, printed_bootstrap
from harness.envoy import Envoy
from harness.go_client import go_client
from harness.lost_packets import WAYS, lost
from harness.manifests import Manifests
from harness.python_clients import native_client, trimtab_client
from harness.traffic import Traffic
from harness.waiting import Deadline, Unmet, eventually

pytestmark = pytest.mark.processes

CLIENT_NOTICES_WITHIN_S = 20  # it pings after 10 s and waits for 5
ENVOY_NOTICES_WITHIN_S = 30 + 5 + 10  # its bootstrap's pings; then its timers have to come to it
NEXT_ONE_WITHIN_S = 15  # 10 s after the loss
SERVER_NOTICES_WITHIN_S = 50 + 2  # it pings after 30 s and waits for 20; then it has to be asked
BACK_WITHIN_S = 60
ORDERS = Road("xds:///orders.shop:grpc")


@dataclass
class Pair:
    """A client with a control plane of its own, and one for when that is silent."""

    name: str
    plane: ControlPlane
    client: Client

    @property
    def port(self):
        return int(self.plane.address.rpartition(":")[2])

    def wait_noticed(self, within):
        self.client.expect_line(
            rf"control plane {self.plane.address}: .*what is known stays in use", within=within
        )


@pytest.fixture
def plane_of(started, tmp_path):
    """Start a control plane that knows the Service ``orders.shop`` with these pods."""

    def start(name, pods):
        directory = tmp_path / name
        directory.mkdir()
        Manifests(directory).write("orders", "shop", pods)
        plane = started(ControlPlane(free_addresses(), directory))
        plane.start()
        return plane

    return start


@pytest.fixture
def pairs(plane_of, backends, started):
    """A pair for each way to fall silent; all of them have the same second control plane."""
    a, b = backends.open("first", "second")
    second = plane_of("second", [b])

    def pair(name):
        plane = plane_of(name.replace(" ", "-"), [a])
        bootstrap = json.loads(plane.bootstrap("grpc", node_id=name, namespace="shop"))
        other = json.loads(second.bootstrap("grpc"))
        bootstrap["xds_servers"] += other["xds_servers"]
        return Pair(name, plane, started(trimtab_client(json.dumps(bootstrap))))

    return [pair(name) for name in (*WAYS, "frozen")]


@contextlib.contextmanager
def silent(pair):
    """Its first control plane is."""
    with contextlib.ExitStack() as stack:
        if pair.name in WAYS:
            stack.enter_context(lost(pair.name, pair.port))
        else:
            pair.plane.freeze()
            stack.callback(pair.plane.thaw)
        yield


def wait_dropped(plane, nodes, within, what):
    def look():
        there = {client["node"] for client in plane.clients()} & set(nodes)
        return Unmet(f"still {sorted(there)}") if there else True

    eventually(look, within=within, what=what)


def test_a_silent_control_plane_is_noticed_the_next_one_is_used_and_the_first_again_when_it_is_back(
    pairs,
):
    """Its packets lost in either way and in both, and SIGSTOP; all at once, since each takes a minute."""
    with Traffic([(pair.client, {pair.name: ORDERS}) for pair in pairs]).load() as load:
        load.comes_from("first")
        with contextlib.ExitStack() as faults:
            for pair in pairs:
                faults.enter_context(silent(pair))
            begun = Deadline(0)
            for pair in pairs:
                pair.wait_noticed(CLIENT_NOTICES_WITHIN_S - begun.elapsed)
            load.comes_from("second", within=NEXT_ONE_WITHIN_S)
            for pair in pairs:
                if pair.name in WAYS:
                    left_s = SERVER_NOTICES_WITHIN_S - begun.elapsed
                    what = f"the client is dropped, packets being lost {pair.name} the server"
                    wait_dropped(pair.plane, [pair.name], left_s, what)
        load.comes_from("first", within=BACK_WITHIN_S)


def test_an_envoy_with_the_printed_bootstrap_notices_a_silent_control_plane(
    plane_of, backends, started, tmp_path
):
    plane = plane_of("only", backends.open("first"))
    identity = (("node_id", "envoy"), ("namespace", "shop"))
    printed = printed_bootstrap("envoy", plane.address, identity)
    envoy = started(Envoy("envoy", printed.replace("port_value: 9901", "port_value: 0"), tmp_path))
    envoy.wait_ready()
    envoy.wait_cluster("orders.shop:8080")

    def unanswered():
        found = envoy.stat("^cluster.trimtab.http2.keepalive_timeout$")
        return sum(found.values()) or Unmet(f"{found}")

    assert isinstance(unanswered(), Unmet)
    plane.freeze()
    try:
        eventually(unanswered, within=ENVOY_NOTICES_WITHIN_S, what="the silence is noticed")
    finally:
        plane.thaw()
    plane.wait_clients("envoy", within=BACK_WITHIN_S)
    envoy.wait_cluster("orders.shop:8080")


def test_frozen_clients_are_dropped_within_fifty_seconds(plane_of, backends, started):
    plane = plane_of("only", backends.open("first"))
    clients = {}
    for name, make in (("native", native_client), ("trimtab", trimtab_client), ("go", go_client)):
        identity = (("node_id", name), ("namespace", "shop"))
        clients[name] = started(make(printed_bootstrap("grpc", plane.address, identity)))
        clients[name].wait_answer(ORDERS, "first", within=20)
    plane.wait_clients(*clients)
    for client in clients.values():
        client.freeze()
    try:
        wait_dropped(plane, clients, SERVER_NOTICES_WITHIN_S, "frozen clients are dropped")
    finally:
        for client in clients.values():
            client.thaw()
    plane.wait_clients(*clients, within=BACK_WITHIN_S)
