"""Per-zone views: what each client is sent of zones, and that nobody else notices."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.model import MAX_WEIGHT, Endpoint, Health, Locality, PolicyConfig, Synced
from trimtab.xds import type_urls, zone_views
from trimtab.xds.zone_views import RESERVE, Place, ServiceName, Surroundings
from xds_peer import CDS, EDS, Plane, node, opened, service, snapshot

ORDERS = "orders.shop:8080"
OURS = "trimtab"


def at(zone, n, weight=1, **more):
    number = ord(zone[0]) if zone else 0
    return Endpoint(f"10.{number}.{n}.1", 9000, Locality("r", zone), weight=weight, **more)


def pods(counts, **more):
    """So many endpoints per zone."""
    return [at(zone, n, **more) for zone, count in counts.items() for n in range(count)]


def shop(servers, clients=None, policy=None):
    plane = Plane(Synced())
    plane.update(snapshot(*pods(servers), policy=policy))
    if clients is not None:
        front(plane, clients)
    return plane


def front(plane, clients, **more):
    plane.update(snapshot(*pods(clients, **more), of=service("front")))


def asks(plane, zone="a", of="front.shop", agent="gRPC Python", *, delta=False, **metadata):
    """A client of some Service in some zone that subscribes to ``orders``; answered."""
    peer = (plane.delta if delta else plane.sotw)(agent)
    peer.node = node(agent, **metadata)
    peer.node.cluster = of
    peer.node.locality.zone = zone
    peer.ask(EDS, [ORDERS]) if delta else peer.ask(EDS, ORDERS)
    return peer


def assignment(peer):
    """The last one that is sent now."""
    (*_, last) = peer.drain()
    return opened(last.resources[-1])


def shares(message):
    """Parts of the requests by zone, in priority 0."""
    weights = {}
    for group in message.endpoints:
        if group.priority == 0:
            zone = group.locality.zone
            weights[zone] = weights.get(zone, 0) + group.load_balancing_weight.value
    total = sum(weights.values())
    return {zone: weight / total for zone, weight in weights.items()}


def facts(message):
    """What a trimtab client reads, by zone."""
    return {
        g.locality.zone: dict(g.metadata.filter_metadata[type_urls.METADATA].fields.items())
        if type_urls.METADATA in g.metadata.filter_metadata
        else {}
        for g in message.endpoints
    }


EVEN = {"a": 2, "b": 2, "c": 2}


@pytest.mark.parametrize("agent", ["gRPC Python", "envoy"])
def test_a_native_client_is_sent_locality_weights_that_split_by_both_sides(agent):
    plane = shop(EVEN, {"a": 7, "b": 2, "c": 1})
    seen = shares(assignment(asks(plane, "a", agent=agent)))
    whole = {"a": 10 / 21, "b": (4 / 21), "c": (7 / 21)}  # 1/3 / 0.7; the rest 2 : 3.5
    assert seen["a"] == pytest.approx(whole["a"] * (1 - RESERVE) + RESERVE / 3, abs=1e-5)
    assert seen["c"] > seen["b"]
    assert seen == pytest.approx(whole, abs=0.03)
    home = shares(assignment(asks(plane, "c", agent=agent)))
    assert home["c"] == pytest.approx(1 - RESERVE * 2 / 3, abs=1e-5)


def test_our_client_is_sent_the_split_beside_unchanged_weights():
    plane = shop(EVEN, {"a": 2, "b": 1, "c": 1})
    message = assignment(asks(plane, "a", agent=OURS))
    assert [g.load_balancing_weight.value for g in message.endpoints] == [2, 2, 2]
    seen = facts(message)
    assert {f["client_zone"].string_value for f in seen.values()} == {"a"}
    base = {zone: f["base"].number_value for zone, f in seen.items()}
    assert base == pytest.approx({"a": 2 / 3, "b": 1 / 6, "c": 1 / 6})


@pytest.mark.parametrize("agent", ["gRPC Python", "envoy", OURS])
@pytest.mark.parametrize(
    ("zone", "of"),
    [
        ("", "front.shop"),  # no zone
        ("a", ""),  # of no Service
        ("a", "nobody.shop"),  # of one that there isn't
        ("z", "front.shop"),  # in a zone where nobody was counted
        ("a", "front"),  # of one in a namespace that it doesn't say
    ],
)
def test_a_client_that_is_not_placed_gets_what_it_always_got(agent, zone, of):
    placed = shop(EVEN, {"a": 7, "b": 2, "c": 1})
    asks(placed, "b", agent=agent).drain()
    plain = shop(EVEN).sotw(agent)
    plain.ask(EDS, ORDERS)
    assert assignment(asks(placed, zone, of, agent)) == assignment(plain)


def test_zone_off_and_policies_without_zones_have_one_view():
    for policy in (PolicyConfig.of("token", zone="off"), PolicyConfig.of("ring_hash")):
        plane = shop(EVEN, {"a": 7, "b": 2}, policy)
        assert shares(assignment(asks(plane))) == pytest.approx(dict.fromkeys("abc", 1 / 3))


@pytest.mark.parametrize("of", ["", "front.shop"])
@pytest.mark.parametrize("agent", ["gRPC Python", "envoy"])
def test_strict_puts_the_own_zone_alone_into_the_first_priority(agent, of):
    plane = shop(EVEN, {"a": 9, "b": 1}, PolicyConfig.of("token", zone="strict"))
    peer = asks(plane, "a", of, agent)
    message = assignment(peer)
    assert {g.locality.zone: g.priority for g in message.endpoints} == {"a": 0, "b": 1, "c": 1}
    # Envoy would spill over at 71 % already.
    assert message.policy.overprovisioning_factor.value >= 100 * 100
    plane.update(snapshot(*pods({"b": 2, "c": 2}), policy=PolicyConfig.of("token", zone="strict")))
    assert {g.priority for g in assignment(peer).endpoints} == {0}


def test_a_zone_that_loses_its_endpoints_is_left_and_entered_again():
    plane = shop(EVEN, {"a": 1, "b": 1, "c": 1})
    peer = asks(plane)
    assert shares(assignment(peer))["a"] > 0.98
    plane.update(snapshot(*pods({"b": 2, "c": 2})))
    assert shares(assignment(peer)) == pytest.approx({"b": 0.5, "c": 0.5})
    plane.update(snapshot(*pods(EVEN)))
    assert shares(assignment(peer))["a"] > 0.98


def test_only_ready_pods_count_as_clients():
    plane = shop(EVEN)
    front(plane, {"a": 1, "b": 1, "c": 1})
    peer = asks(plane)
    before = assignment(peer)
    of = service("front")
    plane.update(
        snapshot(*pods({"a": 1, "b": 1, "c": 1}), at("a", 50, health=Health.UNHEALTHY), of=of)
    )
    assert not peer.drain()
    plane.update(snapshot(*pods({"a": 4, "b": 1, "c": 1}), of=of))
    assert shares(assignment(peer))["a"] < shares(before)["a"]


def test_each_view_is_encoded_once_and_shared():
    plane = shop(EVEN, {"a": 3, "b": 1})
    bodies = {}
    for zone in "abab":
        for agent in ("gRPC Python", "gRPC Go", "envoy"):
            peer = asks(plane, zone, agent=agent)
            client = peer.session.client or (peer.drain() and peer.session.client)
            bodies.setdefault(zone, set()).add(id(plane.catalog.get(EDS, ORDERS, client).body))
    assert {zone: len(ids) for zone, ids in bodies.items()} == {"a": 1, "b": 1}
    plain = asks(plane, "").session.client
    before = plane.catalog.get(EDS, ORDERS, plain)
    front(plane, {"a": 1, "b": 1})
    assert plane.catalog.get(EDS, ORDERS, plain) is before


def test_a_change_of_the_clients_reaches_their_own_views_and_no_others():
    plane = shop(EVEN, {"a": 3, "b": 1, "c": 1})
    plane.update(snapshot(*pods({"a": 1, "b": 1}), of=service("batch")))
    theirs = asks(plane, "a")
    others = [
        asks(plane, "a", "batch.shop"),
        asks(plane, "", "front.shop"),
        asks(plane, "a", "batch.shop", "envoy", delta=True),
        asks(plane, "a", "batch.shop", OURS),
    ]
    for peer in (theirs, *others):
        peer.drain()
    front(plane, {"a": 1, "b": 3, "c": 1})
    assert [peer.drain() for peer in others] == [[]] * len(others)
    assert shares(assignment(theirs))["a"] > 0.98


def test_a_delta_client_that_reconnects_unchanged_receives_nothing():
    plane = shop(EVEN, {"a": 3, "b": 1, "c": 1})
    first = asks(plane, "a", agent="envoy", delta=True)
    (response,) = first.drain()
    versions = {r.name: r.version for r in response.resources}
    # Another replica, told in another order.
    other = Plane(Synced())
    front(other, {"c": 1, "b": 1, "a": 3})
    other.update(snapshot(*pods({"c": 2, "b": 2, "a": 2})))
    again = other.delta("envoy")
    again.node = node("envoy")
    again.node.cluster, again.node.locality.zone = "front.shop", "a"
    again.ask(EDS, [ORDERS], initial=versions)
    assert not again.drain()


def test_a_client_service_that_appears_later_counts_from_then_on_and_until_it_goes():
    plane = shop(EVEN)
    peer = asks(plane)
    assert shares(assignment(peer))["a"] == pytest.approx(1 / 3)
    front(plane, {"a": 1, "b": 1, "c": 1})
    assert shares(assignment(peer))["a"] > 0.98
    plane.remove("front.shop:8080")
    assert shares(assignment(peer))["a"] == pytest.approx(1 / 3)


def test_a_service_of_several_ports_counts_its_pods_once():
    plane = shop(EVEN, {"a": 2, "b": 1})
    plane.update(
        snapshot(*pods({"a": 2, "b": 1}), of=service("front", port=9090, port_name="http"))
    )
    assert plane.catalog.ready_pods(ServiceName("front", "shop")) == {"a": 2, "b": 1}
    plane.remove("front.shop:8080")
    assert plane.catalog.ready_pods(ServiceName("front", "shop")) == {"a": 2, "b": 1}


@pytest.mark.parametrize(
    "said", ["front", "front.shop", "front.shop:8080", "front.shop.svc.cluster.local"]
)
def test_a_client_names_its_service_as_it_is_used_to(said):
    plane = shop(EVEN, {"a": 1, "b": 1, "c": 1})
    peer = asks(plane, of=said, namespace="shop")
    assert shares(assignment(peer))["a"] > 0.98


class OnlyOrders:
    def sees(self, port):
        return port is not None and port.service == "orders"


def test_a_service_that_a_client_may_not_see_tells_it_nothing():
    plane = shop(EVEN, {"a": 7, "b": 2, "c": 1})
    peer = plane.sotw("gRPC Go", audience=OnlyOrders())
    peer.node.cluster, peer.node.locality.zone = "front.shop", "a"
    peer.ask(EDS, ORDERS)
    assert shares(assignment(peer))["a"] == pytest.approx(1 / 3)


def test_a_node_s_name_is_enough_where_an_endpoint_of_that_node_is_known():
    plane = shop(EVEN, {"a": 1, "b": 1, "c": 1})
    peer = asks(plane, "", agent=OURS, node_name="node-7")
    native = asks(plane, "", node_name="node-7")
    assert facts(assignment(peer)) == {"a": {}, "b": {}, "c": {}}
    assert shares(assignment(native))["a"] == pytest.approx(1 / 3)
    # A pod of any Service that runs there tells.
    agent = service("agent", "kube-system")
    plane.update(snapshot(at("b", 9, node="node-7"), of=agent))
    seen = facts(assignment(peer))
    assert seen["b"]["client_zone"].string_value == "b"
    assert seen["b"]["base"].number_value == 1.0
    assert shares(assignment(native))["b"] > 0.98
    # What is once known of a node stays known.
    plane.remove(agent.cluster)
    assert shares(assignment(asks(plane, "", node_name="node-7")))["b"] > 0.98


def test_our_client_learns_its_zone_from_the_node_even_if_nothing_else_is_known():
    plane = shop({"b": 1})
    plane.update(snapshot(at("b", 1, node="n"), at("a", 1)))
    seen = facts(assignment(asks(plane, "", "", OURS, node_name="n")))
    assert {zone: set(f) for zone, f in seen.items()} == {
        "a": {"client_zone"},
        "b": {"client_zone"},
    }


def test_a_node_name_that_means_two_zones_means_none():
    plane = shop(EVEN, {"a": 1, "b": 1, "c": 1})
    plane.update(snapshot(at("a", 1, node="n"), of=service("east")))
    plane.update(snapshot(at("b", 1, node="n"), of=service("west")))
    assert shares(assignment(asks(plane, "", node_name="n")))["a"] == pytest.approx(1 / 3)


def test_a_node_whose_zone_s_name_changes_is_followed_and_its_clients_hear_of_it():
    plane = shop(EVEN, {"a": 1, "b": 1, "c": 1})
    east, west = service("east"), service("west")
    plane.update(snapshot(at("a", 1, node="n"), at("a", 2, node="n"), of=east))
    plane.update(snapshot(at("a", 3, node="n"), of=west))
    native, ours = (asks(plane, "", agent=agent, node_name="n") for agent in ("gRPC Go", OURS))
    assert shares(assignment(native))["a"] > 0.98
    assert facts(assignment(ours))["a"]["client_zone"].string_value == "a"
    # Slices are not all rewritten at once; until they are, it is in no zone.
    plane.update(snapshot(at("b", 1, node="n"), at("b", 2, node="n"), of=east))
    assert shares(assignment(native))["a"] == pytest.approx(1 / 3)
    plane.update(snapshot(at("b", 3, node="n"), of=west))
    assert shares(assignment(native))["b"] > 0.98
    assert facts(assignment(ours))["a"]["client_zone"].string_value == "b"
    # It is known already, so nobody need ask for an unknown one.
    assert shares(assignment(asks(plane, "", node_name="n")))["b"] > 0.98


PLACED = st.lists(
    st.tuples(st.sampled_from(["n", "m"]), st.sampled_from(["", "a", "b"])), max_size=4
)


@given(st.lists(st.tuples(st.sampled_from(["x", "y"]), PLACED | st.none()), max_size=12))
def test_after_any_changes_a_node_s_zone_is_what_its_endpoints_agree_on(changes):
    there, last = {}, {}
    surroundings = Surroundings(there)
    look(surroundings, "front", "n")
    for name, placed in changes:
        of = service(name)
        old = there.pop(of.cluster, None)
        if placed is not None:
            found = [at(zone, n, node=node) for n, (node, zone) in enumerate(placed)]
            there[of.cluster] = snapshot(*{e.key: e for e in found}.values(), of=of)
        before = {n: look(surroundings, "front", n) for n in "nm"}
        touched = surroundings.changed(of.cluster, old, there.get(of.cluster))
        for where in "nm":
            zones = {
                e.locality.zone
                for s in there.values()
                for e in s.endpoints
                if e.node == where and e.locality.zone
            }
            if zones:
                last[where] = zones.pop() if len(zones) == 1 else ""
            seen = look(surroundings, "front", where)
            assert (seen.zone if seen else "") == last.get(where, "")
            assert seen == before[where] or ORDERS in touched


@pytest.mark.parametrize("policy", [None, PolicyConfig.of("round_robin")])
def test_native_grpc_that_is_sent_a_split_is_told_to_go_by_localities_first(policy):
    plane = shop(EVEN, {"a": 1}, policy)

    def first(zone, agent):
        peer = asks(plane, zone, agent=agent)
        peer.drain()
        peer.ask(CDS, ORDERS)
        (response,) = peer.drain()
        cluster = opened(response.resources[0])
        types = [
            p.typed_extension_config.name.rpartition(".")[2]
            for p in cluster.load_balancing_policy.policies
        ]
        return next(t for t in types if t != "TypedStruct")

    assert first("a", "gRPC Go") == "WrrLocality"
    for zone, agent in (("", "gRPC Go"), ("a", "envoy"), ("a", OURS)):
        assert first(zone, agent) == ("RoundRobin" if policy else "LeastRequest")


COUNTS = st.dictionaries(st.sampled_from(["a", "b", "c", ""]), st.integers(0, 4), max_size=4)
WEIGHTS = st.sampled_from([1, 2, 100, MAX_WEIGHT])


@given(
    COUNTS,
    COUNTS,
    WEIGHTS,
    st.sampled_from(["prefer", "strict", "off"]),
    st.sampled_from(["a", "b", "z", ""]),
    st.sampled_from(["gRPC Go", "envoy", OURS]),
)
def test_no_view_holds_what_a_client_would_reject(servers, clients, weight, mode, zone, agent):
    plane = Plane(Synced())
    policy = PolicyConfig.of("token", zone=mode)
    plane.update(snapshot(*pods(servers, weight=weight), policy=policy))
    front(plane, clients)
    message = assignment(asks(plane, zone, agent=agent))
    places = [(g.priority, g.locality.SerializeToString()) for g in message.endpoints]
    assert len(places) == len(set(places))
    priorities = {g.priority for g in message.endpoints}
    assert priorities == set(range(len(priorities)))
    for priority in priorities:
        weights = [
            g.load_balancing_weight.value for g in message.endpoints if g.priority == priority
        ]
        assert all(weights)
        assert agent == OURS or sum(weights) <= MAX_WEIGHT
    assert sum(len(g.lb_endpoints) for g in message.endpoints) == sum(servers.values())


def test_a_locality_s_share_is_divided_by_capacity_among_those_of_one_zone():
    plane = Plane(Synced())
    west = [Endpoint("10.1.0.1", 80, Locality("w", "a"), weight=1)]
    east = [Endpoint("10.2.0.1", 80, Locality("e", "a"), weight=3)]
    plane.update(snapshot(*west, *east, at("b", 1, weight=4)))
    front(plane, {"a": 1, "b": 1})
    message = assignment(asks(plane, "a"))
    weights = {
        (g.locality.region, g.locality.zone): g.load_balancing_weight.value
        for g in message.endpoints
    }
    assert weights["e", "a"] == pytest.approx(3 * weights["w", "a"], rel=1e-4)
    assert weights["r", "b"] == pytest.approx(5_000, abs=1)


def look(surroundings, service, node=""):
    place = Place("" if node else "a", node, ServiceName(service, "shop"))
    return surroundings.vantage(ORDERS, place, "prefer", own_client=True)


def test_however_many_names_clients_made_up_who_comes_later_is_told_of(monkeypatch):
    monkeypatch.setattr(zone_views, "_MAX_HOPED", 10)
    monkeypatch.setattr(zone_views, "_MAX_NODES", 10)
    there = {ORDERS: snapshot(*pods(EVEN))}
    surroundings = Surroundings(there)
    surroundings.changed(ORDERS, None, there[ORDERS])
    for i in range(100):
        look(surroundings, f"job-{i}")
        look(surroundings, f"job-{i}", f"spot-node-{i}")
    look(surroundings, "front")
    look(surroundings, "front", "node-1")
    for cluster, more in (("front.shop:8080", {}), ("other.shop:8080", {"node": "node-1"})):
        of = service(cluster.partition(".")[0])
        there[cluster] = snapshot(*pods({"a": 1}, **more), of=of)
        assert ORDERS in surroundings.changed(cluster, None, there[cluster])
    kept = (surroundings._hoped, surroundings._sought, surroundings._pods)
    assert max(map(len, kept)) <= 10


def test_a_client_is_told_of_its_service_s_first_pods_however_the_service_came_about():
    there = {}
    surroundings = Surroundings(there)
    empty, ready = (snapshot(*pods(counts), of=service("front")) for counts in ({}, {"a": 2}))
    for _ in range(3):
        look(surroundings, "front")  # before there is such a Service
        there["front.shop:8080"] = empty
        assert not surroundings.changed("front.shop:8080", None, empty)
        look(surroundings, "front")
        there["front.shop:8080"] = ready
        assert ORDERS in surroundings.changed("front.shop:8080", empty, ready)
        del there["front.shop:8080"]
        look(surroundings, "front")
        there.clear()
        surroundings.changed("front.shop:8080", ready, None)


def test_who_looked_while_the_service_had_no_pods_is_told_of_those_of_the_next_one():
    there = {}
    surroundings = Surroundings(there)
    empty, ready = (snapshot(*pods(counts), of=service("front")) for counts in ({}, {"a": 2}))
    there["front.shop:8080"] = empty
    surroundings.changed("front.shop:8080", None, empty)
    look(surroundings, "front")
    there.clear()
    surroundings.changed("front.shop:8080", empty, None)
    there["front.shop:8080"] = ready
    assert ORDERS in surroundings.changed("front.shop:8080", None, ready)
