"""Which connections an endpoint has: the rules, without any."""

import sys
from random import Random

import pytest

import trimtab
from trimtab.balancer import Balancer
from trimtab.client.connections import Connections
from trimtab.client.links import Link, Links
from trimtab.errors import ConfigError
from trimtab.model import Endpoint, Snapshot
from trimtab.testing import FakeClock


class Credentials:
    generation = 0

    def poll(self):
        pass


class Opened:
    """What a door does: opens and closes."""

    def __init__(self, n=1, credentials=None, **connections):
        self.clock = FakeClock()
        self.balancer = Balancer("orders", clock=self.clock, random=Random(1))
        endpoints = tuple(Endpoint(f"10.0.0.{i}", 80) for i in range(n))
        self.balancer.update(Snapshot("orders", endpoints))
        self.closed = []
        self.links = Links(
            Connections(**connections), credentials, self.clock, Random(2), lambda _: Link(),
            self.closed.append,
        )  # fmt: skip
        self.nodes = list(self.balancer.nodes.values())
        for node in self.nodes:
            self.links.first(node)
            self.ready(node, node.transport)

    def ready(self, node, link):
        self.links.looked(node, link, connected=True, failed=False)

    def lost(self, node, link):
        self.links.looked(node, link, connected=False, failed=False)

    def failed(self, node, link):
        link.failing = True  # as doors do
        self.links.looked(node, link, connected=False, failed=True)

    def call(self):
        pick = self.balancer.pick()
        link = pick.transport
        if len(link.open) >= link.room:
            link = pick.transport = self.links.roomier(pick.node, link)
        link.open.add(pick)
        return pick

    def beat(self, seconds=1.0):
        self.clock.advance(seconds)
        self.links.beat(self.nodes)


def test_a_successor_takes_over_when_it_is_connected_and_the_old_one_drains():
    door = Opened(max_age_s=100)
    (node,) = door.nodes
    old = node.transport
    before = door.call()
    door.beat(100)
    new = old.successor
    assert node.transport is old  # still connecting
    door.ready(node, new)
    assert node.transport is new
    assert door.call().transport is new
    assert door.closed == []
    door.links.ended(before)
    assert door.closed == [old]


def test_nothing_is_replaced_before_four_fifths_of_the_age_and_all_is_after_it():
    door = Opened(50, max_age_s=100)
    old = [node.transport for node in door.nodes]
    door.beat(79.9)
    assert not any(link.successor for link in old)
    ages = {link.expires for link in old}
    assert len(ages) == len(old)
    assert all(80 <= age <= 100 for age in ages)


def test_a_tenth_of_the_connections_is_replaced_at_a_time():
    door = Opened(50, max_age_s=100)
    door.beat(100)
    begun = [node for node in door.nodes if node.transport.successor is not None]
    assert len(begun) == 5
    door.beat()
    assert sum(node.transport.successor is not None for node in door.nodes) == 5
    for node in begun:
        door.ready(node, node.transport.successor)
    door.beat()
    assert sum(node.transport.successor is not None for node in door.nodes) == 5


def test_the_oldest_connection_is_the_first_to_be_replaced():
    door = Opened(3, max_age_s=1)
    for _ in range(9):
        door.beat(5)
        for node in door.nodes:
            if node.transport.successor is not None:
                door.ready(node, node.transport.successor)
    ages = [door.clock() - node.transport.expires for node in door.nodes]
    assert max(ages) < 3 * 5


def test_one_that_can_not_be_replaced_holds_up_no_other():
    door = Opened(2, max_age_s=100)
    door.beat(100)
    (stuck,) = (node for node in door.nodes if node.transport.successor is not None)
    old = stuck.transport
    door.failed(stuck, old.successor)
    door.beat()
    assert all(node.transport.successor is not None for node in door.nodes)
    assert stuck.transport is old  # goes on serving


def test_a_successor_takes_over_at_once_when_the_old_connection_is_lost():
    door = Opened(max_age_s=100)
    (node,) = door.nodes
    old = node.transport
    door.beat(100)
    new = old.successor
    door.lost(node, old)
    assert node.transport is new
    assert door.closed == [old]


def test_changed_credentials_replace_every_connection_and_a_successor_of_older_ones():
    credentials = Credentials()
    door = Opened(credentials=credentials)
    (node,) = door.nodes
    old = node.transport
    credentials.generation = 1
    door.beat()
    late = old.successor
    credentials.generation = 2
    door.beat()
    assert door.closed == [late]
    door.ready(node, old.successor)
    assert node.transport.generation == 2
    door.beat()
    assert node.transport.successor is None


def test_a_connection_that_is_lost_after_a_change_of_credentials_is_not_made_again_with_the_old():
    credentials = Credentials()
    door = Opened(30, credentials=credentials)
    for node in door.nodes:
        door.lost(node, node.transport)
    credentials.generation = 1
    door.beat()
    assert {node.transport.generation for node in door.nodes} == {1}


@pytest.mark.parametrize("was", ["failed", "lost"])
def test_one_that_is_not_connected_is_left_alone_at_its_age_and_gets_another(was):
    door = Opened(max_age_s=100)
    (node,) = door.nodes
    link = node.transport
    getattr(door, was)(node, link)
    door.beat(100)
    assert node.transport is link
    assert link.successor is None
    door.ready(node, link)  # what it has now is new
    door.beat(79.9)
    assert link.successor is None
    door.beat(20.1)
    assert link.successor is not None


def test_requests_beyond_the_limit_go_to_further_connections_up_to_the_most():
    door = Opened(streams=2, most=3)
    picks = [door.call() for _ in range(8)]
    by_link = [len(link.open) for link in dict.fromkeys(pick.transport for pick in picks)]
    assert sorted(by_link) == [2, 3, 3]
    assert door.balancer.in_flight == 8


def test_a_further_connection_is_kept_while_it_has_work_and_a_minute_more():
    door = Opened(streams=1)
    (node,) = door.nodes
    door.call()
    second = door.call()
    door.beat(300)
    door.links.ended(second)
    door.beat(59)
    assert door.closed == []
    door.beat(1)
    assert door.closed == [second.transport]
    assert node.transport.further == ()


def test_a_further_connection_that_fails_gets_no_more_requests_until_the_next_beat():
    door = Opened(streams=1)
    (node,) = door.nodes
    door.call()
    door.failed(node, door.call().transport)
    assert door.call().transport is node.transport
    door.beat()
    assert door.call().transport is not node.transport


def test_an_endpoint_that_leaves_takes_all_its_connections_with_it():
    door = Opened(streams=1, max_age_s=100)
    (node,) = door.nodes
    first, second = door.call(), door.call()
    door.beat(100)
    successor = node.transport.successor
    door.links.leave(node)
    assert door.closed == [successor]
    door.links.ended(second)
    door.links.ended(first)
    assert door.closed == [successor, second.transport, first.transport]


def test_without_a_word_nothing_is_ever_replaced_or_added():
    door = Opened()
    (node,) = door.nodes
    assert {door.call().transport for _ in range(1000)} == {node.transport}
    assert node.transport.room == sys.maxsize
    door.beat(1e9)
    assert node.transport.successor is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_age_s": 0.5},
        {"max_age_s": float("nan")},
        {"max_age_s": True},
        {"streams": 0},
        {"streams": 2.0},
        {"most": 0},
        {"most": 65},
    ],
)
def test_numbers_out_of_range_are_refused_by_name(wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=rf"Connections: {name}="):
        Connections(**wrong)


def test_something_else_than_connections_is_refused():
    with pytest.raises(ConfigError, match=r"channel 'orders': connections=5 is no trimtab.Conn"):
        trimtab.insecure_channel("orders", endpoints=["127.0.0.1:1"], connections=5)


def test_the_environment_gives_the_age_where_the_keyword_says_nothing():
    environ = {"TRIMTAB_MAX_CONNECTION_AGE": "3600"}
    assert Connections.of(None, environ, "channel").max_age_s == 3600
    assert Connections.of(Connections(), environ, "channel").max_age_s is None
    with pytest.raises(ConfigError, match=r"TRIMTAB_MAX_CONNECTION_AGE='1h' is not a number"):
        Connections.of(None, {"TRIMTAB_MAX_CONNECTION_AGE": "1h"}, "channel")
