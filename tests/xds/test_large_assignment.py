"""A cluster of very many endpoints is made ready in steps, and served in subsets where it must."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encodings_count import Encodings
from trimtab.model import Endpoint, Health, Locality, Synced
from trimtab.xds.assignments import Fragments, View, _lb_endpoint, assignment_resource
from trimtab.xds.catalog import Client
from trimtab.xds.large_assignment import LARGE, SEATS, LargeAssignment, seat_of
from trimtab.xds.server_subscription import SLICE
from xds_peer import EDS, Plane, name_of, opened, service, snapshot

STEP = 2000  # endpoints


def pods(count, **facts):
    return [Endpoint(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}", 9000, **facts) for i in range(count)]


def large(endpoints, room, view=View.FULL):
    made = LargeAssignment(snapshot(*endpoints), view, Fragments(view), room=room)
    assert made.exceeds
    return made


def test_every_endpoint_is_in_as_many_subsets_as_any_other_give_or_take_two():
    many = pods(5000)
    found = large(many, room=60_000)
    subsets = [found.subset(seat) for seat in range(SEATS)]
    counts = Counter(e.key for subset in subsets for e in subset)
    mean = sum(map(len, subsets)) / len(many)
    assert 4 < mean < SEATS - 4
    assert all(abs(counts[e.key] - mean) <= 2 for e in many)


def test_who_comes_or_goes_moves_the_ends_of_subsets_and_nothing_else():
    many = pods(5000)
    before, after = large(many, room=60_000), large(many[:2500] + many[2501:], room=60_000)
    for seat in range(SEATS):
        was, now = ({e.key for e in found.subset(seat)} for found in (before, after))
        assert len(was - now) <= 1
        assert len(now - was) <= 1


def test_usable_endpoints_go_first():
    ready, draining = pods(1500), pods(4000, health=Health.DRAINING)[1500:]
    found = large([*ready, *draining], room=60_000)
    for seat in range(SEATS):
        subset = found.subset(seat)
        assert set(ready) <= set(subset)
        assert len(subset) > len(ready)


def test_node_ids_spread_over_the_seats():
    taken = Counter(seat_of(f"orders-7d9f8b6c5-{n:05d}") for n in range(16_000))
    # Binomial: 1,000 each, give or take five times sqrt(1000 * 15 / 16).
    assert len(taken) == SEATS
    assert all(abs(count - 1000) < 155 for count in taken.values())


LOCALITIES = st.builds(Locality, zone=st.sampled_from(["a", "b"]))
ENDPOINTS = st.builds(
    Endpoint,
    st.integers(1, 250).map("10.0.0.{}".format),
    st.just(80),
    LOCALITIES,
    st.text("n", max_size=200),
    st.sampled_from(Health),
    priority=st.integers(0, 2),
)


@given(
    st.lists(ENDPOINTS, max_size=40, unique_by=lambda e: e.key),
    st.integers(600, 6000),
    st.sampled_from(View),
    st.integers(0, SEATS - 1),
)
def test_a_subset_fits_into_its_room(endpoints, room, view, seat):
    snap, fragments = snapshot(*endpoints), Fragments(view)
    found = LargeAssignment(snap, view, fragments, room=room)
    part = found.subset(seat) if found.exceeds else None
    whole = assignment_resource("c", snap, fragments, view, salt="", endpoints=part)
    assert len(whole.body) <= room


@pytest.mark.parametrize("view", View)
@pytest.mark.parametrize("weight", [1, 2**20], ids=["light", "too heavy together"])
def test_no_subset_takes_from_the_next_what_was_encoded_for_it(view, weight):
    snap, fragments = snapshot(*pods(5000, weight=weight)), Fragments(view)
    found = LargeAssignment(snap, view, fragments, room=30_000)
    assert found.exceeds
    with Encodings(_lb_endpoint) as encoded:
        for seat in range(SEATS):
            part = found.subset(seat)
            assert len(part) < len(snap.endpoints) / 2
            assignment_resource("c", snap, fragments, view, salt="", endpoints=part)
    assert encoded.count == 0


# ---- as a stream has it ----

ORDERS = service()
MANY = pods(9000)


@pytest.fixture(params=["lean", "full"])
def peer(request):
    plane = Plane()
    plane.update(snapshot(*MANY, of=ORDERS))
    plane.apply(Synced())
    found = plane.sotw("envoy" if request.param == "lean" else "trimtab")
    found.plane = plane
    return found


def steps(peer):
    """Prepare all that waits; how many endpoints each step encodes."""
    peer.session.changed(())
    found = []
    while not peer.session.prepared:
        with Encodings(_lb_endpoint) as encoded:
            peer.session.prepare()
        found.append(encoded.count)
    return found


def told(peer):
    (body,) = peer.get().resources
    return body.SerializeToString()


def expected(peer, endpoints):
    anew = Plane()
    anew.update(snapshot(*endpoints, of=ORDERS))
    return anew.catalog.get(EDS, ORDERS.cluster, Client(kind=peer.session.client.kind)).body


def test_no_step_encodes_more_than_a_part_and_the_answer_is_the_same(peer):
    peer.ask(EDS, ORDERS.cluster)
    found = steps(peer)
    assert sum(found) == len(MANY)
    assert max(found) == STEP
    with Encodings(_lb_endpoint, assignment_resource) as encoded:
        answer = told(peer)
    assert encoded.count == 0
    assert answer == expected(peer, MANY)


def test_after_one_change_a_large_cluster_takes_two_steps_however_many_it_took_at_first(peer):
    peer.ask(EDS, ORDERS.cluster)
    steps(peer)
    assert told(peer)
    changed = [*MANY, Endpoint("10.9.9.9", 9000)]
    peer.plane.update(snapshot(*changed, of=ORDERS))
    assert steps(peer) == [1, 0]
    assert told(peer) == expected(peer, changed)


def test_who_does_not_prepare_is_told_the_same(peer):
    peer.ask(EDS, ORDERS.cluster)
    assert told(peer) == expected(peer, MANY)


def test_a_change_in_the_middle_is_in_the_answer_and_nothing_is_encoded_twice(peer):
    peer.ask(EDS, ORDERS.cluster)
    for _ in range(3):
        peer.session.prepare()
    changed = [*MANY[1:], Endpoint("10.9.9.9", 9000)]
    peer.plane.update(snapshot(*changed, of=ORDERS))
    assert sum(steps(peer)) == len(MANY) - 3 * STEP + 1
    assert told(peer) == expected(peer, changed)


def test_a_cluster_that_changes_in_the_middle_again_and_again_is_sent_all_the_same(peer):
    peer.ask(EDS, ORDERS.cluster)
    for turn in range(9):
        content = [*MANY, Endpoint(f"10.9.9.{turn}", 9000)]
        peer.plane.update(snapshot(*content, of=ORDERS))
        peer.session.prepare()
        if peer.session.prepared:
            break
    assert turn <= 3
    assert told(peer) == expected(peer, content)


def test_of_many_that_change_all_the_time_each_is_sent_as_it_is_ready(peer):
    services = [service(f"s{number}") for number in range(5)]
    peer.plane.update(*(snapshot(*MANY, of=of) for of in services))
    peer.ask(EDS, *(of.cluster for of in services))
    sent = []
    for turn in range(5):
        assert len(steps(peer)) <= len(MANY) / STEP + 3  # of one
        (body,) = peer.get().resources
        sent.append(name_of(opened(body)))
        after = [snapshot(*MANY, Endpoint(f"10.9.9.{turn}", 9000), of=of) for of in services]
        peer.plane.update(*after)
    assert sorted(sent) == [of.cluster for of in services]


def test_weights_that_are_sent_as_others_are_prepared_as_those(peer):
    heavy = [Endpoint(e.address, e.port, weight=2**20 + n % 3) for n, e in enumerate(MANY)]
    peer.plane.update(snapshot(*heavy, of=ORDERS))  # their sum does not fit into 32 bits
    peer.ask(EDS, ORDERS.cluster)
    assert sum(steps(peer)) == len(MANY)
    with Encodings(_lb_endpoint) as encoded:
        assert told(peer) == expected(peer, heavy)
    assert encoded.count == len(MANY)  # by the catalog that is compared with


def test_others_with_the_same_view_have_nothing_to_prepare(peer):
    second = peer.plane.sotw(peer.node.user_agent_name)
    for one in (peer, second):
        one.ask(EDS, ORDERS.cluster)
    assert steps(peer)
    assert not steps(second)
    assert told(second) == expected(second, MANY)


def test_a_cluster_that_is_large_no_more_is_encoded_at_once(peer):
    peer.plane.update(snapshot(*MANY[:LARGE], of=ORDERS))
    peer.ask(EDS, ORDERS.cluster)
    assert not steps(peer)
    peer.plane.update(snapshot(*MANY[: LARGE + 1], of=ORDERS))
    assert steps(peer)
    peer.plane.remove(ORDERS.cluster)
    assert not steps(peer)


@pytest.mark.parametrize("delta", [False, True], ids=["sotw", "delta"])
def test_what_is_as_it_was_before_it_hides_no_large_cluster(delta):
    plane, small = Plane(), service("small")
    plane.update(snapshot(*pods(2), of=small), snapshot(*pods(3), of=ORDERS))
    plane.apply(Synced())
    names = [small.cluster, ORDERS.cluster]
    if delta:
        peer = plane.delta("trimtab")
        peer.ask(EDS, names)
    else:
        peer = plane.sotw("trimtab")
        peer.ask(EDS, *names)
    peer.session.changed(())
    assert peer.drain()
    for count in (1, 2):  # it went and came back before anybody was told
        plane.update(snapshot(*pods(count), of=small))
    plane.update(snapshot(*MANY, of=ORDERS))
    assert STEP <= max(steps(peer)) <= STEP + 250  # the last part of a step may go beyond
    with Encodings(_lb_endpoint) as encoded:
        (answer,) = peer.get().resources
    assert encoded.count == 0
    assert name_of(opened(answer)) == ORDERS.cluster


# More than a response is looked through for.
SMALL = [service(f"s{number}") for number in range(SLICE + 50)]


def asked(plane, *, delta, initial=()):
    names = [of.cluster for of in (*SMALL, ORDERS)]
    if delta:
        peer = plane.delta("trimtab")
        peer.ask(EDS, names, initial=dict(initial))
    else:
        peer = plane.sotw("trimtab")
        peer.ask(EDS, *names)
    return peer


def in_steps(peer):
    """All responses, each prepared for; none of them encodes, and no step more than a part."""
    found = []
    while True:
        assert max(steps(peer), default=0) <= STEP + 250
        with Encodings(_lb_endpoint) as encoded:
            response = peer.get()
        assert encoded.count == 0
        if response is None:
            return found
        found += [name_of(opened(one)) for one in response.resources]
        peer.ack(response)


@pytest.mark.parametrize("delta", [False, True], ids=["sotw", "delta"])
def test_many_that_are_as_they_were_hide_no_large_cluster(delta):
    plane = Plane()
    plane.update(*(snapshot(*pods(2), of=of) for of in (*SMALL, ORDERS)))
    plane.apply(Synced())
    peer = asked(plane, delta=delta)
    peer.drain()
    for count in (1, 2):
        plane.update(*(snapshot(*pods(count), of=of) for of in SMALL))
    plane.update(snapshot(*MANY, of=ORDERS))
    assert in_steps(peer) == [ORDERS.cluster]


@pytest.mark.parametrize("of_orders", [2, len(MANY)])
def test_who_returns_with_many_that_are_as_they_were_finds_a_large_cluster_encoded_in_steps(
    of_orders,
):
    def anew(count):
        plane = Plane()
        plane.update(*(snapshot(*pods(2), of=of) for of in SMALL))
        plane.update(snapshot(*pods(count), of=ORDERS))
        plane.apply(Synced())
        return plane

    earlier = asked(anew(of_orders), delta=True)
    had = {r.name: r.version for response in earlier.drain() for r in response.resources}
    changed = [] if of_orders == len(MANY) else [ORDERS.cluster]
    assert in_steps(asked(anew(len(MANY)), delta=True, initial=had)) == changed


@pytest.mark.parametrize("delta", [False, True], ids=["sotw", "delta"])
@pytest.mark.parametrize("complete", [False, True])
def test_many_names_that_nothing_answers_to_hide_no_large_cluster(delta, complete):
    plane = Plane()
    plane.update(snapshot(*MANY, of=ORDERS))
    if complete:
        plane.apply(Synced())
    else:
        plane.catalog.answer_incomplete()
    assert ORDERS.cluster in in_steps(asked(plane, delta=delta))


@pytest.mark.parametrize("delta", [False, True], ids=["sotw", "delta"])
def test_many_that_are_gone_hide_no_large_cluster(delta):
    plane = Plane()
    plane.update(*(snapshot(*pods(2), of=of) for of in (*SMALL, ORDERS)))
    plane.apply(Synced())
    peer = asked(plane, delta=delta)
    peer.drain()
    for of in SMALL:
        plane.remove(of.cluster)
    plane.update(snapshot(*MANY, of=ORDERS))
    assert in_steps(peer) == [ORDERS.cluster]
