"""What many resources need is encoded beforehand, a bounded part at a time, and nothing else changes."""

import pytest

from encodings_count import Encodings
from trimtab.model import Endpoint, PolicyConfig, Synced
from trimtab.xds.assignments import assignment_resource
from trimtab.xds.resources import cluster_resource
from trimtab.xds.server_subscription import MAX_ASSIGNMENTS
from xds_peer import CDS, EDS, Plane, addresses, name_of, opened, service, snapshot

MANY = 450
STEP = 200  # of a hundred assignments each, and of their Clusters, whose versions they contain


def called(number):
    return f"s{number}.shop:8080"


NAMES = [called(number) for number in range(MANY)]


def content(number, address="10.0.0.1", policy=None):
    return snapshot(address, of=service(f"s{number}"), policy=policy)


def plane(many=MANY):
    made = Plane()
    made.update(*map(content, range(many)))
    made.apply(Synced())
    return made


def subscribed(made, *, delta, type_url, names=NAMES):
    peer = made.delta() if delta else made.sotw("envoy")
    wanted = ["*"] if type_url == CDS else names
    if delta:
        peer.ask(type_url, wanted)
    else:
        peer.ask(type_url, *wanted)
    return peer


def prepared(peer):
    """Prepare all; how much each step encoded."""
    peer.session.changed(())  # as after each request
    steps = []
    while not peer.session.prepared:
        with Encodings(cluster_resource, assignment_resource) as encoded:
            peer.session.prepare()
        steps.append(encoded.count)
    return steps


def drained(peer):
    """All responses, each prepared for, and the most that one step encoded."""
    responses, most = [], 0
    while True:
        most = max([most, *prepared(peer)])
        with Encodings(cluster_resource, assignment_resource) as encoded:
            response = peer.get()
        most = max(most, encoded.count)
        if response is None:
            return responses, most
        responses.append(response)
        peer.ack(response)


def resources(responses):
    return [opened(one) for response in responses for one in response.resources]


def by_name(responses):
    found = {}
    for one in resources(responses):
        assert name_of(one) not in found, "sent twice"
        found[name_of(one)] = one
    return found


each_kind = pytest.mark.parametrize("type_url", [CDS, EDS])
each_variant = pytest.mark.parametrize("delta", [True, False])


@each_variant
@each_kind
def test_no_step_encodes_more_than_a_part_and_everything_arrives(delta, type_url):
    peer = subscribed(plane(), delta=delta, type_url=type_url)
    responses, most = drained(peer)
    assert by_name(responses).keys() == set(NAMES)
    assert 0 < most <= STEP


@each_variant
@each_kind
def test_what_was_prepared_is_what_is_sent_without(delta, type_url):
    made = plane()
    first = subscribed(made, delta=delta, type_url=type_url)
    second = subscribed(plane(), delta=delta, type_url=type_url)
    assert resources(drained(first)[0]) == resources(second.drain())


@each_variant
def test_a_second_stream_with_the_same_view_finds_everything_encoded(delta):
    made = plane()
    drained(subscribed(made, delta=delta, type_url=EDS))
    assert drained(subscribed(made, delta=delta, type_url=EDS))[1] == 0


@each_variant
def test_a_change_in_the_middle_is_in_what_is_sent(delta):
    made = plane()
    peer = subscribed(made, delta=delta, type_url=EDS)
    peer.session.prepare()
    for number in (0, MANY - 1):  # one of them is prepared already
        made.update(content(number, "10.9.9.9"))
    sent = by_name(drained(peer)[0])
    changed = {name for name, one in sent.items() if addresses(one) == {"10.9.9.9"}}
    assert changed == {called(0), called(MANY - 1)}
    assert sent.keys() == set(NAMES)


@each_variant
def test_a_change_of_everything_in_the_middle_is_encoded_in_parts_too(delta):
    made = plane()
    peer = subscribed(made, delta=delta, type_url=EDS)
    assert len(prepared(peer)) > 1
    made.update(*(content(number, "10.9.9.9") for number in range(MANY)))
    responses, most = drained(peer)
    assert {a for one in by_name(responses).values() for a in addresses(one)} == {"10.9.9.9"}
    assert most <= STEP


def test_what_is_unsubscribed_from_in_the_middle_is_not_sent():
    peer = subscribed(plane(), delta=True, type_url=EDS)
    peer.session.prepare()
    peer.ask(EDS, unsubscribe=NAMES[::2])
    assert by_name(drained(peer)[0]).keys() == set(NAMES[1::2])


def test_names_that_a_request_leaves_out_in_the_middle_are_not_sent():
    peer = subscribed(plane(), delta=False, type_url=EDS)
    peer.session.prepare()
    peer.ask(EDS, *NAMES[1::2])
    assert by_name(drained(peer)[0]).keys() == set(NAMES[1::2])


@each_variant
def test_a_cluster_that_goes_or_comes_in_the_middle_is_gone_or_there(delta):
    made = plane()
    peer = subscribed(made, delta=delta, type_url=CDS)
    peer.session.prepare()
    made.remove(called(0))
    made.remove(called(MANY - 1))
    made.update(content(MANY))
    assert by_name(drained(peer)[0]).keys() == {called(n) for n in range(1, MANY + 1)} - {
        called(MANY - 1)
    }


@each_variant
def test_changed_clusters_come_before_their_endpoints(delta):
    made = plane()
    peer = subscribed(made, delta=delta, type_url=CDS)
    drained(peer)
    peer.ask(EDS, NAMES) if delta else peer.ask(EDS, *NAMES)
    drained(peer)
    other = PolicyConfig("random")
    made.update(*(content(number, policy=other) for number in range(MANY)))
    responses, most = drained(peer)
    kinds = [response.type_url for response in responses]
    assert kinds == sorted(kinds, key=[CDS, EDS].index)
    assert set(kinds) == {CDS, EDS}
    assert len(resources(responses)) == 2 * MANY
    assert most <= STEP


@each_variant
def test_a_change_of_one_cluster_needs_no_turn_of_its_own(delta):
    made = plane()
    peer = subscribed(made, delta=delta, type_url=EDS)
    drained(peer)
    for turn in range(2 * STEP):
        made.update(content(turn % MANY, f"10.1.{turn % 250}.{1 + turn // 250}"))
        assert peer.session.prepared
        peer.ack(peer.get())


@each_variant
def test_before_all_sources_are_applied_there_is_nothing_to_prepare(delta):
    made = Plane()
    made.update(*map(content, range(MANY)))
    peer = subscribed(made, delta=delta, type_url=EDS)
    assert peer.session.prepared
    made.apply(Synced())
    assert not peer.session.prepared


def test_who_returns_with_everything_is_sent_no_assignment_and_looked_at_in_parts():
    many = 5000
    names = [called(number) for number in range(many)]
    before = subscribed(plane(many), delta=True, type_url=EDS, names=names)
    had = {r.name: r.version for response in before.drain() for r in response.resources}
    peer = plane(many).delta()
    peer.ask(EDS, names, initial=had)
    responses, most = drained(peer)
    assert resources(responses) == []
    assert 0 < most <= STEP


@each_variant
def test_clusters_with_many_endpoints_make_shorter_steps(delta):
    made = Plane()
    many = [Endpoint(f"10.0.{i // 250}.{1 + i % 250}", 9000) for i in range(1000)]
    made.update(*(snapshot(*many, of=service(f"s{number}")) for number in range(120)))
    made.apply(Synced())
    peer = subscribed(made, delta=delta, type_url=EDS, names=NAMES[:120])
    assert max(prepared(peer)) <= 10


@each_variant
def test_a_response_has_a_bounded_number_of_assignments(delta):
    many = 2 * MAX_ASSIGNMENTS + 1
    names = [called(number) for number in range(many)]
    peer = subscribed(plane(many), delta=delta, type_url=EDS, names=names)
    responses = peer.drain()
    assert [len(response.resources) for response in responses] == [
        MAX_ASSIGNMENTS,
        MAX_ASSIGNMENTS,
        1,
    ]
    assert by_name(responses).keys() == set(names)
