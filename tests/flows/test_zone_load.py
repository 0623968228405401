"""Clients in several zones at a steady rate, each in its own process, and servers that queue.

A server works on ``at_once`` requests of WORK_MS at a time; rates are so far below what a slow machine
does that the queues are the servers' own.
"""

from collections import Counter
from contextlib import ExitStack

import pytest

from harness.client import Road
from harness.python_clients import trimtab_client, trimtab_client_of
from harness.waiting import Unmet, eventually
from harness.zones import front

pytestmark = pytest.mark.processes

ROADS = {"orders": Road("xds:///orders.shop:grpc")}
WORK_MS = 40


class Zones:
    """A client in each zone, under load.

    Args:
        loads: by zone of the client.
    """

    def __init__(self, loads):
        self._loads = loads

    def served(self):
        """By zone of the client: how many requests each server has answered."""
        return {zone: load.served()["orders"] for zone, load in self._loads.items()}

    def next(self, seconds_at):
        """The same over the next so many requests of each client, given by its zone."""
        begin = self.served()

        def look():
            new = {zone: served - begin[zone] for zone, served in self.served().items()}
            short = {z: n.total() for z, n in new.items() if n.total() < seconds_at[z]}
            return Unmet(f"{short}") if short else new

        return eventually(look, within=30, what=f"{seconds_at} more requests")


def home(zone, served):
    """The part of a client's requests that stayed; a server's name begins with its zone."""
    return sum(n for name, n in served.items() if name[0] == zone) / served.total()


@pytest.fixture
def zones(shop, manifests, backends, control_plane, started):
    """Makes servers and clients, and starts the load."""
    with ExitStack() as ends:

        def make(*, pods, at_once, counted, rates):
            """Arguments by zone: server pods, client pods in the manifests, requests per second."""
            shop(
                *(
                    backends.open_with(f"{zone}{n}", zone=zone, at_once=at_once)
                    for zone, count in pods.items()
                    for n in range(count)
                )
            )
            front(manifests, control_plane, **counted)
            clients = {}
            for zone in rates:
                place = {"zone": zone, "service": "front.shop"}
                printed = control_plane.bootstrap("grpc", node_id=f"client-{zone}", **place)
                clients[zone] = started(trimtab_client(printed))
                clients[zone].call(ROADS["orders"])
            return Zones(
                {
                    zone: ends.enter_context(client.load(ROADS, rate=rates[zone], work_ms=WORK_MS))
                    for zone, client in clients.items()
                }
            )

        yield make


def test_clients_busier_than_their_pods_tell_spill_over_and_the_others_stay(zones):
    # By pods both zones carry their own; but zone a's client sends 2.2 times as much, 110 % of what
    # its two pods of 2 / 40 ms each can do.
    rates = {"a": 110, "b": 50}
    load = zones(pods={"a": 2, "b": 2}, at_once=2, counted={"a": 1, "b": 1}, rates=rates)

    def settled():
        seen = load.next(rates)
        parts = {zone: home(zone, served) for zone, served in seen.items()}
        return (parts["a"] < 0.9 and parts["b"] > 0.85) or Unmet(f"{parts} of {seen}")

    # While zone a's queues grow, zone b's client may look elsewhere, too.
    eventually(settled, within=40, what="zone a sends on what it can't carry, zone b stays")


def test_the_pods_of_a_small_zone_share_its_load_and_are_not_overrun(zones):
    # A fifth of the pods for a third of the clients: all at home would be 100 % of what they can do
    # and 1.67 times the mean pod's load.
    rates = dict.fromkeys("abc", 50)
    load = zones(
        pods={"a": 2, "b": 4, "c": 4}, at_once=1, counted=dict.fromkeys("abc", 1), rates=rates
    )
    load.next(rates)
    served = sum(load.next({zone: 3 * rate for zone, rate in rates.items()}).values(), Counter())
    mean = served.total() / 10
    assert max(served["a0"], served["a1"]) < 1.5 * mean, served
    assert min(served["a0"], served["a1"]) > 0.5 * mean, served


def test_uneven_clients_load_all_pods_alike_and_keep_at_home_what_they_can(zones):
    # Zone a's clients alone are 126 % of what its pods can do. By the split 37 % of all requests leave
    # their zone; without zones it would be 67 %.
    rates = {"a": 126, "b": 36, "c": 18}
    load = zones(
        pods=dict.fromkeys("abc", 2), at_once=2, counted={"a": 7, "b": 2, "c": 1}, rates=rates
    )
    load.next(rates)
    seen = load.next({zone: 3 * rate for zone, rate in rates.items()})
    served = sum(seen.values(), Counter())
    assert max(served.values()) < 1.5 * served.total() / 6, served
    stayed = sum(home(zone, each) * each.total() for zone, each in seen.items())
    assert 1 - stayed / served.total() < 0.55, seen


def test_the_environment_says_in_which_zone_a_client_is(shop, backends, control_plane, started):
    pods = [*backends.open("a0", "a1", zone="a"), *backends.open("b0", "b1", zone="b")]
    shop(*pods, annotations={"trimtab.dev/zone": "strict", "trimtab.dev/policy": "round_robin"})

    def served(**zone):
        client = started(
            trimtab_client_of({"TRIMTAB_CONTROL_PLANE": control_plane.address, **zone})
        )
        client.call(ROADS["orders"])

        def look():
            seen = {client.call(ROADS["orders"]).server for _ in range(8)}
            return len(seen) in {2, 4} and seen

        return eventually(look, within=10, what="each of its servers answers")

    assert served(TRIMTAB_ZONE="a") == {"a0", "a1"}
    assert served(TRIMTAB_ZONE="b") == {"b0", "b1"}
    assert served() == {"a0", "a1", "b0", "b1"}
