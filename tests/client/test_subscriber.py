"""The decisions of a subscription: real sessions back to back, time as an argument."""

from random import Random

import pytest
from google.protobuf import any_pb2
from hypothesis import given
from hypothesis import strategies as st

from trimtab.client.bootstrap import Bootstrap
from trimtab.client.effects import Connect, Disconnect, Fail, Log, Send, Update
from trimtab.client.subscriber import (
    FALLBACK_AFTER_S,
    KEEPALIVE_S,
    LINGER_S,
    MOST_RELEASED,
    POLITE_KEEPALIVE_S,
    SILENCE_S,
    Subscriber,
)
from trimtab.model import Endpoint, Removed, ServicePort, Snapshot, Synced, Updated
from trimtab.xds import type_urls
from trimtab.xds import wire_pb2 as wire
from trimtab.xds.catalog import Catalog
from trimtab.xds.client_session import ClientSession, NodeInfo
from trimtab.xds.server_session import Nacked, ServerSession

NAME = "orders.shop:grpc"


def snapshot(*addresses, service="orders"):
    port = ServicePort(service, "shop", 8080, "grpc")
    return Snapshot(port.cluster, tuple(Endpoint(a, 50051) for a in addresses), service=port)


class Plane:
    """A control plane that can be down, and that answers in memory."""

    def __init__(self, *snapshots, synced=True):
        self.up = True
        self.spoil = lambda response: response
        self.catalog = Catalog()
        for each in snapshots:
            self.catalog.apply(Updated(each))
        if synced:
            self.catalog.apply(Synced())
        self.sessions = {}
        self.keepalives = []

    def apply(self, event):
        changed = self.catalog.apply(event)
        for session in self.sessions.values():
            session.changed(changed)


class World:
    """A subscriber and its control planes; ``run`` plays until nothing more happens."""

    def __init__(self, *planes):
        self.now = 1000.0
        self.planes = {f"cp{i}:1": plane for i, plane in enumerate(planes)}
        bootstrap = Bootstrap.of(*self.planes, node_id="test")
        self.subscriber = Subscriber(
            bootstrap, lambda: ClientSession(node=NodeInfo(id="test")), Random(1), self.now
        )
        self.seen = {}
        self.logs = []
        self.connects = []

    def watch(self, watcher, name=NAME):
        self.seen[watcher] = []
        self.subscriber.watch(watcher, name, self.now)
        self.run()
        return self.seen[watcher]

    def unwatch(self, watcher, name=NAME):
        self.subscriber.unwatch(watcher, name, self.now)
        self.run()

    def run(self):
        for _ in range(1000):
            if not (self.effects() + self.responses()):
                return
        raise AssertionError("it never comes to rest")

    def effects(self):  # noqa: C901 - one case per effect
        effects = self.subscriber.poll(self.now)
        for effect in effects:
            match effect:
                case Connect(number, server, keepalive):
                    self.connects.append(server.uri)
                    plane = self.planes[server.uri]
                    plane.keepalives.append(keepalive)
                    if plane.up:
                        plane.sessions[number] = ServerSession(plane.catalog, delta=False)
                    else:
                        self.subscriber.closed(number, "UNAVAILABLE: refused", self.now)
                case Send(number, request):
                    for plane in self.planes.values():
                        if number in plane.sessions:
                            plane.sessions[number].receive(request)
                case Disconnect(number):
                    for plane in self.planes.values():
                        plane.sessions.pop(number, None)
                case Update(watcher, got):
                    self.seen[watcher].append(got)
                case Fail(watcher, reason):
                    self.seen[watcher].append(reason)
                case Log(_, text):
                    self.logs.append(text)
        return len(effects)

    def responses(self):
        count = 0
        for plane in self.planes.values():
            for number, session in list(plane.sessions.items()):
                while (response := session.next_response()) is not None:
                    count += 1
                    self.subscriber.received(number, plane.spoil(response), self.now)
        return count

    def down(self, plane, error="UNAVAILABLE: connection reset"):
        plane.up = False
        for number in list(plane.sessions):
            del plane.sessions[number]
            self.subscriber.closed(number, error, self.now)
        self.run()

    def at(self, seconds):
        """Let time pass, waking up whenever the subscriber wants to."""
        end = self.now + seconds
        for _ in range(10_000):
            self.run()
            wakes = self.subscriber.wakes_at()
            if wakes is None or wakes > end:
                self.now = end
                self.run()
                return
            assert wakes > self.now, "it wants to wake in the past: a busy loop"
            self.now = wakes
        raise AssertionError("it wakes without end")


def streams(*planes):
    return [len(plane.sessions) for plane in planes]


def test_all_watchers_share_one_stream_and_hear_every_change():
    plane = Plane(snapshot("10.0.0.1"), snapshot("10.0.0.7", service="carts"))
    world = World(plane)
    first, second = world.watch("a"), world.watch("b")
    other = world.watch("c", "carts.shop")
    assert first == second == [snapshot("10.0.0.1")]
    assert other == [snapshot("10.0.0.7", service="carts")]
    plane.apply(Updated(snapshot("10.0.0.1", "10.0.0.2")))
    world.run()
    assert first[-1] == second[-1] == snapshot("10.0.0.1", "10.0.0.2")
    assert len(other) == 1
    assert world.connects == ["cp0:1"]


def test_a_later_watcher_of_the_same_name_gets_the_state_at_once():
    plane = Plane(snapshot("10.0.0.1"))
    world = World(plane)
    world.watch("a")
    world.down(plane)
    assert world.watch("b") == [snapshot("10.0.0.1")]


def test_an_absent_service_is_named_with_its_neighbours_address_and_what_to_do():
    world = World(Plane(snapshot("10.0.0.1")))
    (reason,) = world.watch("a", "ordres.shop:grpc")
    for part in ("ordres.shop:grpc", "orders.shop:8080", "cp0:1", "check the target"):
        assert part in reason


def test_a_service_that_appears_later_reaches_the_waiting_watcher():
    plane = Plane()
    world = World(plane)
    seen = world.watch("a")
    assert isinstance(seen[-1], str)
    plane.apply(Updated(snapshot("10.0.0.1")))
    world.run()
    assert seen[-1] == snapshot("10.0.0.1")


def test_a_removed_service_is_told_and_an_equal_one_that_returns_too():
    plane = Plane(snapshot("10.0.0.1"))
    world = World(plane)
    seen = world.watch("a")
    plane.apply(Removed("orders.shop:8080"))
    world.run()
    assert isinstance(seen[-1], str)
    plane.apply(Updated(snapshot("10.0.0.1")))
    world.run()
    assert seen[-1] == snapshot("10.0.0.1")


def test_a_control_plane_that_is_down_is_named_with_age_error_and_origin():
    plane = Plane(snapshot("10.0.0.1"))
    plane.up = False
    world = World(plane)
    seen = world.watch("a")
    assert len(seen) == 1
    for part in (NAME, "control plane cp0:1 unreachable for 0 s", "UNAVAILABLE: refused"):
        assert part in seen[0]
    assert "argument bootstrap" in seen[0]
    world.at(100)
    assert "unreachable for" in seen[-1]
    assert "for 0 s" not in seen[-1]
    late = world.watch("b")
    assert late, "a later watcher is told at once"


def test_a_channel_made_before_its_control_plane_works_when_that_comes():
    plane = Plane(snapshot("10.0.0.1"))
    plane.up = False
    world = World(plane)
    seen = world.watch("a")
    world.at(60)
    plane.up = True
    world.at(30)
    assert seen[-1] == snapshot("10.0.0.1")
    assert "answers again" in world.logs[-1]


def test_reconnects_are_spaced_and_a_long_outage_is_logged_once():
    plane = Plane()
    plane.up = False
    world = World(plane)
    world.watch("a")
    world.at(600)
    assert 20 <= len(world.connects) <= 80  # about 9 in the first 50 s, then one in 15 s
    assert len(world.logs) == 1


def test_a_control_plane_that_restarts_is_found_again_and_watchers_hear_nothing_of_it():
    plane = Plane(snapshot("10.0.0.1"))
    world = World(plane)
    seen = world.watch("a")
    world.at(60)
    world.down(plane)
    plane.up = True
    world.at(1)
    assert streams(plane) == [1]
    plane.apply(Updated(snapshot("10.0.0.2")))
    world.run()
    assert seen == [snapshot("10.0.0.1"), snapshot("10.0.0.2")]


def test_a_control_plane_that_answers_and_crashes_again_and_again_is_not_hammered():
    plane = Plane(snapshot("10.0.0.1"))
    world = World(plane)
    world.watch("a")
    for _ in range(2000):
        if world.now > 1300:
            break
        world.down(plane)
        plane.up = True
        world.at(max(0.001, (world.subscriber.wakes_at() or 0) - world.now))
    assert len(world.connects) <= 60


def test_garbage_ends_the_stream_keeps_the_last_good_state_and_backs_off():
    plane = Plane(snapshot("10.0.0.1"))
    world = World(plane)
    seen = world.watch("a")
    plane.spoil = lambda _response: b"\xff\xff"
    plane.apply(Updated(snapshot("10.0.0.2")))
    world.run()
    assert streams(plane) == [0]
    newcomer = world.watch("b", "carts.shop:1")
    world.at(300)
    assert seen == [snapshot("10.0.0.1")]
    assert "broke the protocol" in newcomer[-1]
    assert len(world.connects) <= 50
    plane.spoil = lambda response: response
    world.at(30)
    assert seen[-1] == snapshot("10.0.0.2")


def with_two_equal_endpoints(response):
    message = wire.DiscoveryResponse.FromString(response)
    if message.type_url == type_urls.EDS:
        for index, body in enumerate(message.resources):
            wrapped = any_pb2.Any.FromString(body)
            assignment = wire.ClusterLoadAssignment.FromString(wrapped.value)
            endpoints = assignment.endpoints[0].lb_endpoints
            endpoints.append(endpoints[0])
            wrapped.value = assignment.SerializeToString()
            message.resources[index] = wrapped.SerializeToString()
    return message.SerializeToString()


def test_a_bad_resource_is_refused_with_a_reason_and_the_last_good_state_stays():
    plane = Plane(snapshot("10.0.0.1"))
    world = World(plane)
    seen = world.watch("a")
    plane.spoil = with_two_equal_endpoints
    plane.apply(Updated(snapshot("10.0.0.2")))
    world.run()
    assert seen == [snapshot("10.0.0.1")]
    (session,) = plane.sessions.values()
    (nack,) = [e for e in session.take_events() if isinstance(e, Nacked)]
    assert "duplicate" in nack.text
    assert "duplicate" in world.logs[-1]
    plane.spoil = lambda response: response
    plane.apply(Updated(snapshot("10.0.0.3")))
    world.run()
    assert seen[-1] == snapshot("10.0.0.3")


def health(world):
    return [(each.connected, each.failures) for _, each in world.subscriber.servers()]


def test_a_server_is_bad_from_a_stream_without_a_response_until_its_next_one():
    plane = Plane(snapshot("10.0.0.1"))
    world = World(plane)
    assert health(world) == [(None, 0)]
    world.watch("a")
    assert health(world) == [(True, 0)]
    world.down(plane)
    # The stream had brought responses: the next attempt tells (gRFC A57).
    assert health(world) == [(True, 0)]
    world.at(100)
    assert len(world.connects) > 3
    assert health(world) == [(False, 1)]
    plane.up = True
    world.at(60)
    assert health(world) == [(True, 1)]
    world.unwatch("a")
    world.at(LINGER_S + 1)
    assert health(world) == [(None, 1)]


def test_a_server_that_is_not_needed_is_neither_good_nor_bad():
    first, second = Plane(snapshot("10.0.0.1")), Plane(snapshot("10.0.0.2"))
    first.up = False
    world = World(first, second)
    world.watch("a")
    assert health(world) == [(False, 1), (True, 0)]
    first.up = True
    world.at(60)
    assert health(world) == [(True, 1), (None, 0)]


def test_resources_are_counted_by_type_and_validity_over_streams():
    plane = Plane(snapshot("10.0.0.1"))
    world = World(plane)
    world.watch("a")
    ((_, server),) = world.subscriber.servers()

    def counts(kind):
        return server.received[kind, True], server.received[kind, False]

    routes = (0, 0)  # they come within the listener
    assert [counts(kind) for kind in type_urls.ORDER] == [(1, 0), (1, 0), (1, 0), routes]
    plane.apply(Updated(snapshot("10.0.0.2")))
    world.run()
    assert [counts(type_urls.CDS), counts(type_urls.EDS)] == [(1, 0), (2, 0)]
    plane.spoil = with_two_equal_endpoints
    plane.apply(Updated(snapshot("10.0.0.3")))
    world.run()
    assert counts(type_urls.EDS) == (2, 1)
    plane.spoil = lambda response: response
    world.down(plane)
    plane.up = True
    world.at(60)
    assert [counts(type_urls.CDS), counts(type_urls.EDS)] == [(2, 0), (3, 1)]  # and the same again


def test_whoever_has_nothing_yet_is_told_why_a_resource_was_refused():
    plane = Plane(snapshot("10.0.0.1"), snapshot("10.0.0.7", service="carts"))
    world = World(plane)
    plane.spoil = with_two_equal_endpoints
    seen = world.watch("a")
    assert len(seen) == 1
    for part in (NAME, "cp0:1", "duplicate"):
        assert part in seen[0]


def test_a_control_plane_that_says_nothing_is_named_after_the_resource_timeout():
    plane = Plane(snapshot("10.0.0.1"), synced=False)
    world = World(plane)
    seen = world.watch("a")
    world.at(SILENCE_S - 0.1)
    assert seen == []
    world.at(0.2)
    assert len(seen) == 1
    assert "cp0:1 has not sent LDS orders.shop:grpc for 15 s" in seen[0]
    world.at(100)
    assert len(seen) == 1
    plane.apply(Synced())
    for session in plane.sessions.values():
        session.changed(plane.catalog.clusters())
    world.run()
    assert seen[-1] == snapshot("10.0.0.1")


def test_the_second_server_is_used_while_the_first_is_down_and_something_is_missing():
    first, second = Plane(snapshot("10.0.0.1")), Plane(snapshot("10.0.0.2"))
    first.up = False
    world = World(first, second)
    seen = world.watch("a")
    assert seen == [snapshot("10.0.0.2")]
    assert streams(first, second) == [0, 1]


def test_the_first_server_takes_over_when_it_answers_and_the_second_is_closed():
    first, second = Plane(snapshot("10.0.0.1"), synced=False), Plane(snapshot("10.0.0.2"))
    first.up = False
    world = World(first, second)
    seen = world.watch("a")
    first.up = True
    world.at(31)
    assert streams(first, second) == [1, 1], "connected is not yet answered"
    assert seen[-1] == snapshot("10.0.0.2")
    first.apply(Synced())
    for session in first.sessions.values():
        session.changed(first.catalog.clusters())
    world.run()
    assert streams(first, second) == [1, 0]
    assert seen[-1] == snapshot("10.0.0.1")


def test_the_second_server_is_left_alone_while_the_first_answers_or_all_is_known():
    first, second = Plane(snapshot("10.0.0.1")), Plane(snapshot("10.0.0.2"))
    world = World(first, second)
    seen = world.watch("a")
    world.at(100)
    world.down(first)
    world.at(FALLBACK_AFTER_S / 4)
    assert streams(first, second) == [0, 0]
    first.up = True
    world.at(FALLBACK_AFTER_S * 2)
    assert streams(first, second) == [1, 0]
    assert "cp1:1" not in world.connects
    assert seen == [snapshot("10.0.0.1")]


def test_endpoints_are_perishable_so_a_lasting_outage_uses_the_second_server():
    first, second = Plane(snapshot("10.0.0.1")), Plane(snapshot("10.0.0.2"))
    world = World(first, second)
    seen = world.watch("a")
    world.down(first)
    world.at(FALLBACK_AFTER_S + 0.1)
    assert seen[-1] == snapshot("10.0.0.2")


def test_when_all_servers_are_down_each_is_named():
    first, second = Plane(), Plane()
    first.up = second.up = False
    world = World(first, second)
    (reason,) = world.watch("a")
    assert "cp0:1 unreachable" in reason
    assert "cp1:1 unreachable" in reason


def test_a_name_is_unsubscribed_when_its_last_watcher_leaves():
    plane = Plane(snapshot("10.0.0.1"), snapshot("10.0.0.7", service="carts"))
    world = World(plane)
    first, _, _ = world.watch("a"), world.watch("b"), world.watch("c", "carts.shop:grpc")
    (session,) = plane.sessions.values()
    world.unwatch("a")
    assert any(status.name == NAME for status in session.status())
    world.unwatch("b")
    assert not any(status.name == NAME for status in session.status())
    assert any(status.name == "carts.shop:grpc" for status in session.status())
    plane.apply(Updated(snapshot("10.0.0.2")))
    world.run()
    assert first == [snapshot("10.0.0.1")]


def test_the_stream_is_closed_when_nothing_was_watched_for_a_while():
    plane = Plane(snapshot("10.0.0.1"))
    world = World(plane)
    world.watch("a")
    world.unwatch("a")
    world.at(LINGER_S - 1)
    assert streams(plane) == [1]
    assert not world.subscriber.finished
    world.at(2)
    assert streams(plane) == [0]
    assert world.subscriber.finished
    assert world.watch("b")[-1] == snapshot("10.0.0.1")
    assert not world.subscriber.finished


def test_a_server_is_not_called_lost_since_a_time_when_nobody_asked_it():
    plane = Plane()
    plane.up = False
    world = World(plane)
    world.watch("a")
    world.unwatch("a")
    world.at(LINGER_S * 10)
    (reason,) = world.watch("b")
    assert "unreachable for 0 s" in reason


def test_a_server_that_was_lost_long_ago_is_tried_again_before_it_is_called_lost():
    first, second = Plane(snapshot("10.0.0.1")), Plane(snapshot("10.0.0.7", service="carts"))
    first.up = second.up = False
    world = World(first, second)
    world.watch("a")
    first.up = True
    world.at(60)
    second.up = True
    world.down(first)
    world.at(FALLBACK_AFTER_S / 2)
    assert world.watch("b", "carts.shop:grpc") == [snapshot("10.0.0.7", service="carts")]


def test_nothing_is_connected_again_for_nobody():
    plane = Plane(snapshot("10.0.0.1"))
    world = World(plane)
    world.watch("a")
    world.unwatch("a")
    world.down(plane)
    plane.up = True
    world.at(LINGER_S + 1)
    assert world.connects == ["cp0:1"]
    assert world.subscriber.finished


def test_a_channel_that_follows_soon_after_another_starts_with_its_endpoints():
    plane = Plane(snapshot("10.0.0.1"))
    world = World(plane)
    world.watch("a")
    world.unwatch("a")
    world.down(plane)
    world.at(LINGER_S / 2)
    assert world.watch("b") == [snapshot("10.0.0.1")]


def test_old_endpoints_are_asked_about_first_and_shown_only_if_no_server_answers():
    plane = Plane(snapshot("10.0.0.1"))
    world = World(plane)
    world.watch("a")
    world.unwatch("a")
    world.at(LINGER_S * 10)
    plane.apply(Updated(snapshot("10.0.0.2")))
    assert world.watch("b") == [snapshot("10.0.0.2")]
    world.unwatch("b")
    world.at(LINGER_S * 10)
    plane.up = False
    assert world.watch("c") == [snapshot("10.0.0.2")]


def test_a_control_plane_that_forbids_pings_is_pinged_less():
    plane = Plane(snapshot("10.0.0.1"))
    world = World(plane)
    seen = world.watch("a")
    world.at(50)
    world.down(plane, "UNAVAILABLE: Too many pings")
    plane.up = True
    world.at(1)
    assert plane.keepalives == [KEEPALIVE_S, POLITE_KEEPALIVE_S]
    assert seen == [snapshot("10.0.0.1")]


@pytest.mark.parametrize("count", [200])
def test_many_watchers_of_many_names_need_one_stream(count):
    plane = Plane(*(snapshot(f"10.0.0.{i}", service=f"s{i}") for i in range(1, 51)))
    world = World(plane)
    for i in range(count):
        world.watch(i, f"s{1 + i % 50}.shop:8080")
    assert all(len(seen) == 1 and isinstance(seen[0], Snapshot) for seen in world.seen.values())
    assert world.connects == ["cp0:1"]
    for i in range(count):
        world.unwatch(i, f"s{1 + i % 50}.shop:8080")
    world.at(LINGER_S)
    assert streams(plane) == [0]


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["down", "up", "garbage", "good"]), st.integers(0, 1)),
        st.tuples(st.sampled_from(["watch", "unwatch"]), st.integers(0, 3)),
        st.tuples(st.just("set"), st.integers(1, 5)),
        st.tuples(st.just("time"), st.sampled_from([0.05, 1.0, 7.0, 20.0, 100.0])),
    ),
    max_size=30,
)


def act(world, planes, watching, action, value):
    match action:
        case "down":
            world.down(planes[value])
        case "up":
            planes[value].up = True
        case "garbage":
            planes[value].spoil = lambda _response: b"\xff\xff"
        case "good":
            planes[value].spoil = lambda response: response
        case "watch" if value not in watching:
            watching.add(value)
            world.watch(value)
        case "unwatch" if value in watching:
            watching.remove(value)
            world.unwatch(value)
        case "set":
            for plane in planes:
                plane.apply(Updated(snapshot(f"10.0.0.{value}")))
        case "time":
            world.at(value)
    world.run()


@given(ACTIONS)
def test_after_whatever_happened_every_watcher_ends_with_the_truth_from_the_first_server(actions):
    planes = [Plane(snapshot("10.0.0.1")), Plane(snapshot("10.0.0.1"))]
    world = World(*planes)
    watching = set()
    for action, value in actions:
        act(world, planes, watching, action, value)
    for index in range(2):
        act(world, planes, watching, "up", index)
        act(world, planes, watching, "good", index)
    world.at(2 * LINGER_S)
    truth = planes[0].catalog.clusters()["orders.shop:8080"]
    assert all(world.seen[watcher][-1] == truth for watcher in watching)
    assert streams(*planes) == ([1, 0] if watching else [0, 0])


def test_names_that_nobody_knows_leave_nothing_behind():
    w = World(Plane(snapshot("10.0.0.1")))
    for i in range(500):
        w.watch("a", f"user{i}.shop:80")
        w.unwatch("a", f"user{i}.shop:80")
    assert not w.subscriber._names


def test_of_the_names_that_nobody_watches_any_more_the_last_ones_keep_their_state():
    named = [f"orders{i}.shop:8080" for i in range(MOST_RELEASED + 3)]
    w = World(Plane(*(snapshot("10.0.0.1", service=f"orders{i}") for i in range(len(named)))))
    kept = w.watch("it stays", named[0])
    for name in named:
        w.watch("a", name)
        w.unwatch("a", name)
    assert list(w.subscriber._names) == [named[0], *named[3:]]
    assert len(kept) == 1
    w.unwatch("it stays", named[0])
    w.watch("again", named[0])
    assert w.seen["again"] == kept
