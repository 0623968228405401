"""Clients of one Service that divide a large cluster among them, each by its own place."""

from collections import Counter

import pytest

import trimtab
from harness.waiting import Unmet, eventually
from trimtab.client.seats import own_place, seat_in, wants_seat
from trimtab.model import Endpoint, Health, PolicyConfig, Snapshot
from trimtab.testing import ControlPlane

SUBSET = PolicyConfig.of("p2c", subset_size=4)
POOL = [f"10.1.0.{i}:80" for i in range(1, 25)]
CLIENTS = [f"10.2.0.{i}" for i in range(1, 7)]


def pods(*addresses, health=Health.READY):
    return [Endpoint(address, 9000, health=health) for address in addresses]


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        (None, False),
        (PolicyConfig("p2c"), False),
        (PolicyConfig.of("p2c", subset_size=0), False),
        (SUBSET, True),
        (PolicyConfig.of("p2c", subset_size="20"), True),
        (PolicyConfig.of("p2c", subset_size=4, subset_index=0, subset_count=2), False),
    ],
)
def test_a_place_is_wanted_where_a_subset_is_and_nobody_says_which(policy, wanted):
    assert wants_seat(policy) is wanted


def test_a_place_is_the_one_among_the_ready_pods():
    mixed = [*pods("10.0.0.3", "10.0.0.1"), *pods("10.0.0.2", health=Health.DRAINING)]
    clients = Snapshot("front", tuple(mixed))
    assert seat_in(clients, "10.0.0.1") == (0, 2)
    assert seat_in(clients, "10.0.0.3") == (1, 2)
    assert seat_in(clients, "10.0.0.2") is None
    assert seat_in(clients, "10.0.0.9") is None


@pytest.mark.parametrize(
    ("metadata", "environ", "address"),
    [
        ({"pod_ip": "a"}, {"POD_IP": "b"}, "a"),
        ({"pod_ip": 7}, {"TRIMTAB_POD_IP": "b", "POD_IP": "c"}, "b"),
        ({}, {"POD_IP": "c"}, "c"),
        ({}, {}, ""),
    ],
)
def test_a_client_knows_its_address_from_its_bootstrap_or_its_environment(
    metadata, environ, address
):
    assert own_place("front.shop", metadata, environ) == ("front.shop", address)


class Fleet:
    """One channel for each client, as if each were a process of its own."""

    def __init__(self, plane, clients, **arguments):
        server = {"server_uri": plane.address, "channel_creds": [{"type": "insecure"}]}
        self.channels = [
            trimtab.insecure_channel(
                "xds:///orders.shop:80",
                bootstrap={
                    "xds_servers": [server],
                    "node": {
                        "id": f"of-{c}",
                        "cluster": "front.shop:9000",
                        "metadata": {"pod_ip": c},
                    },
                },
                **arguments,
            )
            for c in clients
        ]

    def used(self):
        """How many clients use each endpoint."""
        return Counter(n.endpoint.target for c in self.channels for n in c.trimtab.nodes.values())

    def until_even(self, of):
        share = 4 * len(self.channels) / of

        def look():
            used = self.used()
            even = len(used) == of and set(used.values()) <= {int(share), int(share + 0.99)}
            return even or Unmet(used)

        eventually(look, within=15, what=f"{of} endpoints are used by {share:g} clients each")

    def close(self):
        for channel in self.channels:
            channel.close()


@pytest.fixture
def plane():
    with ControlPlane() as control_plane:
        control_plane.set("orders.shop:80", POOL)
        control_plane.set("front.shop:9000", pods(*CLIENTS))
        yield control_plane


def test_the_control_plane_s_list_of_clients_makes_subsets_even_and_is_followed(plane):
    fleet = Fleet(plane, CLIENTS, policy=SUBSET)
    try:
        fleet.until_even(24)
        # Half of the endpoints go: each of the others has two clients now.
        plane.set("orders.shop:80", POOL[:12])
        fleet.until_even(12)
    finally:
        fleet.close()


def test_a_client_that_goes_leaves_its_part_to_the_others(plane):
    fleet = Fleet(plane, CLIENTS[:3], policy=SUBSET)
    try:
        plane.set("front.shop:9000", pods(*CLIENTS[:3]))
        plane.set("orders.shop:80", POOL[:12])
        fleet.until_even(12)
    finally:
        fleet.close()


def test_a_client_that_nobody_knows_draws_its_subset(plane):
    fleet = Fleet(plane, ["10.9.9.9"], policy=SUBSET)
    try:
        eventually(lambda: len(fleet.used()) == 4, within=20, what="a subset of four")
    finally:
        fleet.close()


def test_without_a_subset_nobody_asks_who_the_clients_are(plane):
    fleet = Fleet(plane, CLIENTS[:1], policy=PolicyConfig("p2c"))
    try:
        eventually(lambda: len(fleet.used()) == 24, within=20, what="all endpoints")
        asked = {status.name for client in plane.clients() for status in client.resources}
        assert not [name for name in asked if name.startswith("front")]
    finally:
        fleet.close()
