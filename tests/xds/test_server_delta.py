"""The rules of delta xDS, as clients see them."""

import pytest

from trimtab.errors import ProtocolError
from trimtab.model import Endpoint, PolicyConfig, Synced
from trimtab.xds.names import Alias
from trimtab.xds.server_session import Acked, Limits, Nacked
from trimtab.xds.server_subscription import MAX_MESSAGE
from xds_peer import CDS, EDS, LDS, RDS, Plane, addresses, opened, service, snapshot

A = "a.shop:8080"
B = "b.shop:8080"
C = "c.shop:8080"


def of(name):
    return service(name)


def plane(*, synced=True, aliases=()):
    made = Plane(aliases=aliases)
    made.update(snapshot("10.0.0.1", of=of("a")), snapshot("10.0.1.1", of=of("b")))
    if synced:
        made.apply(Synced())
    return made


def names(response):
    return sorted(r.name for r in response.resources)


def versions(responses):
    return {r.name: r.version for response in responses for r in response.resources}


def errors(response):
    return {e.resource_name.name: e.error_detail.message for e in response.resource_errors}


@pytest.mark.parametrize("type_url", [CDS, EDS, LDS, RDS])
def test_nothing_is_answered_before_all_sources_are_applied(type_url):
    made = plane(synced=False)
    peer = made.delta()
    peer.ask(type_url, [A], initial={A: "1", B: "1"})

    assert peer.get() is None
    made.apply(Synced())
    assert names(peer.get()) == [A]


@pytest.mark.parametrize("type_url", [CDS, EDS, LDS, RDS])
def test_a_subscription_is_answered_and_an_ack_is_not(type_url):
    peer = plane().delta()
    peer.ask(type_url, [A])
    response = peer.get()
    peer.ack(response)

    assert names(response) == [A]
    assert peer.get() is None
    assert Acked(type_url, (A,), response.resources[0].version) in peer.session.take_events()


def test_only_what_changed_is_sent():
    made = plane()
    peer = made.delta()
    peer.ask(CDS)
    peer.ask(EDS, [A, B])
    peer.drain()
    made.update(snapshot("10.0.0.2", of=of("a")))

    (response,) = peer.drain()
    assert (response.type_url, names(response)) == (EDS, [A])


def test_a_name_that_is_subscribed_to_again_is_sent_again():
    peer = plane().delta()
    peer.ask(EDS, [A])
    peer.drain()
    peer.ask(EDS, [A])

    assert names(peer.get()) == [A]


def test_changes_of_the_subscription_count_even_with_a_stale_nonce():
    made = plane()
    peer = made.delta()
    peer.ask(EDS, [A])
    first = peer.get()
    peer.ack(first)
    made.update(snapshot("10.0.0.2", of=of("a")))
    peer.drain()
    peer.ask(EDS, [B], [A], nonce=first.nonce)

    assert names(peer.get()) == [B]
    made.update(snapshot("10.0.0.3", of=of("a")))
    assert peer.get() is None


def test_a_nacked_version_is_never_sent_again_until_the_content_changes():
    made = plane()
    peer = made.delta()
    peer.ask(EDS, [A])
    peer.nack(peer.get(), f"{A}: bad")
    made.update(snapshot("10.0.1.2", of=of("b")))
    assert peer.get() is None
    made.update(snapshot("10.0.0.2", of=of("a")))

    assert names(peer.get()) == [A]
    made.update(snapshot("10.0.0.1", of=of("a")))
    assert peer.get() is None, "the refused content came back"


@pytest.mark.parametrize("agent", ["envoy", "gRPC Go"])
def test_who_asks_again_while_his_refusal_is_under_way_is_answered(agent):
    peer = plane().delta(agent)
    peer.ask(EDS, [A])
    first = peer.get()
    peer.ask(EDS, [A])
    peer.nack(first, f"{A}: bad")

    second = peer.get()
    assert names(second) == [A]
    peer.nack(second, f"{A}: bad")
    assert peer.get() is None, "that was the answer"


def test_a_bad_resource_does_not_hold_back_the_good_ones_on_envoy():
    peer = plane().delta("envoy")
    peer.ask(CDS)
    peer.session.take_events()
    peer.nack(peer.get(), f"Error adding/updating cluster(s) {A}: bad")

    assert names(peer.get()) == [B]
    (nack,) = peer.session.take_events()
    assert isinstance(nack, Nacked)
    assert nack.names == (A,)


# ---- reconnecting ----


@pytest.mark.parametrize("type_url", [CDS, EDS, LDS, RDS])
def test_a_client_that_reconnects_unchanged_receives_nothing(type_url):
    made = plane()
    first = made.delta()
    first.ask(type_url, [A, B])
    again = made.delta()
    again.ask(type_url, [A, B], initial=versions(first.drain()))

    assert again.get() is None


def test_a_wildcard_client_that_reconnects_unchanged_receives_nothing():
    made = plane()
    first = made.delta()
    first.ask(CDS)
    again = made.delta()
    again.ask(CDS, initial=versions(first.drain()))

    assert again.get() is None
    made.update(snapshot("10.0.0.1", of=of("a"), policy=PolicyConfig("random")))
    assert names(again.get()) == [A]


def test_a_client_that_reconnects_receives_only_the_differences():
    made = plane()
    first = made.delta()
    first.ask(EDS, [A, B, C])
    had = versions(first.drain())
    made.update(snapshot("10.0.0.2", of=of("a")))
    again = made.delta()
    again.ask(EDS, [A, B, C], initial=had)

    assert names(again.get()) == [A]


def test_a_client_that_reconnects_hears_of_removals():
    made = plane()
    first = made.delta()
    first.ask(CDS)
    first.ask(EDS, [A, B])
    clusters, endpoints = first.drain()
    made.remove(A)
    again = made.delta()
    again.ask(CDS, initial=versions([clusters]))
    again.ask(EDS, [A, B], initial=versions([endpoints]))

    told = {r.type_url: list(r.removed_resources) for r in again.drain()}
    assert told == {CDS: [A], EDS: [A]}


def test_versions_a_client_brings_from_a_replica_of_other_content_are_not_trusted():
    peer = plane().delta()
    peer.ask(EDS, [A], initial={A: "1"})

    assert names(peer.get()) == [A]


# ---- wildcards ----


def test_a_first_request_without_names_means_all_clusters():
    peer = plane().delta()
    peer.ask(CDS)

    assert names(peer.get()) == [A, B]


def test_an_empty_wildcard_is_answered_so_that_the_client_can_start():
    made = Plane()
    made.apply(Synced())
    peer = made.delta()
    peer.ask(CDS)
    peer.ask(LDS)

    assert [(r.type_url, len(r.resources)) for r in peer.drain()] == [(CDS, 0), (LDS, 0)]
    assert peer.get() is None


def test_wildcard_subscribers_hear_of_new_and_of_deleted_clusters():
    made = plane(aliases=[Alias("other", "shop", "c", "grpc")])
    peer = made.delta()
    peer.ask(CDS)
    peer.drain()
    made.update(snapshot("10.0.2.1", of=of("c")))
    assert names(peer.drain()[0]) == [C, "other"]
    made.remove(C)

    assert sorted(peer.drain()[0].removed_resources) == [C, "other"]


def test_giving_up_the_star_keeps_the_names():
    made = plane()
    peer = made.delta()
    peer.ask(CDS, ["*", A])
    peer.drain()
    peer.ask(CDS, [], ["*"])
    made.update(
        snapshot("10.0.0.1", of=of("a"), policy=PolicyConfig("random")),
        snapshot("10.0.1.1", of=of("b"), policy=PolicyConfig("random")),
    )

    assert names(peer.get()) == [A]


def test_dropping_a_name_while_the_star_stays_is_answered_with_the_resource():
    peer = plane().delta()
    peer.ask(CDS, ["*", A])
    peer.drain()
    peer.ask(CDS, [], [A])

    assert names(peer.get()) == [A]


def test_dropping_a_name_that_the_star_does_not_cover_is_answered_with_its_removal():
    peer = plane().delta()
    peer.ask(CDS, ["*", "a.shop:grpc"])
    peer.drain()
    peer.ask(CDS, [], ["a.shop:grpc"])

    assert list(peer.get().removed_resources) == ["a.shop:grpc"]


# ---- absence ----


@pytest.mark.parametrize("type_url", [CDS, EDS, LDS, RDS])
def test_an_unknown_name_is_reported_as_removed_once_with_a_text(type_url):
    peer = plane().delta("trimtab")
    peer.ask(type_url, ["aa.shop:8080"])
    response = peer.get()
    peer.ack(response)

    assert list(response.removed_resources) == ["aa.shop:8080"]
    assert "no Service port is known as aa.shop:8080" in errors(response)["aa.shop:8080"]
    assert peer.get() is None


@pytest.mark.parametrize("type_url", [CDS, EDS, LDS, RDS])
def test_a_removed_resource_is_reported_and_sent_again_when_it_returns(type_url):
    made = plane()
    peer = made.delta()
    peer.ask(type_url, [A])
    peer.drain()
    made.remove(A)
    (response,) = peer.drain()
    assert list(response.removed_resources) == [A]
    made.update(snapshot("10.0.0.1", of=of("a")))

    assert names(peer.get()) == [A]


def test_no_name_stands_twice_in_a_response():
    made = plane()
    peer = made.delta("gRPC Go")
    peer.ask(LDS, [A, A, "x", "x"])
    response = peer.get()

    told = names(response) + list(response.removed_resources)
    assert len(told) == len(set(told)) == 2


def test_after_a_change_of_a_cluster_its_endpoints_are_sent_with_a_new_version():
    made = plane()
    peer = made.delta()
    peer.ask(CDS)
    peer.ask(EDS, [A, B])
    before = versions(r for r in peer.drain() if r.type_url == EDS)
    made.update(snapshot("10.0.0.1", of=of("a"), policy=PolicyConfig("round_robin")))

    clusters, endpoints = peer.drain()
    assert (names(clusters), names(endpoints)) == ([A], [A])
    assert endpoints.resources[0].version != before[A]


# ---- limits and size ----


def test_a_request_beyond_a_limit_ends_the_stream():
    peer = plane().delta(limits=Limits(names=2))
    peer.ask(EDS, ["x", "y"])
    peer.ask(EDS, ["x"])
    with pytest.raises(ProtocolError, match="3 names"):
        peer.ask(EDS, ["z"])


def test_a_large_answer_is_split_over_messages_below_the_limit():
    made = Plane()
    many = [Endpoint(f"10.{i // 250}.{i % 250}.1", 9000) for i in range(20_000)]
    wanted = {f"s{n}.shop:8080" for n in range(8)}
    made.update(*(snapshot(*many, of=service(f"s{n}")) for n in range(8)))
    made.apply(Synced())
    peer = made.delta()
    peer.ask(EDS, wanted)

    responses = peer.drain()
    assert len(responses) > 1
    assert max(r.ByteSize() for r in responses) <= MAX_MESSAGE
    assert versions(responses).keys() == wanted


def test_the_separate_endpoint_service_works_without_a_type_url():
    peer = plane().delta(type_url=EDS)
    peer.ask("", [A])

    assert addresses(opened(peer.get().resources[0])) == {"10.0.0.1"}
