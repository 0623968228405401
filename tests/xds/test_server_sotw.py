"""The state-of-the-world rules of "xDS REST and gRPC protocol", as clients see them."""

import sys

import pytest

from trimtab.errors import ProtocolError
from trimtab.model import Endpoint, PolicyConfig, Synced
from trimtab.xds.names import Alias
from trimtab.xds.server_session import Acked, Limits, Nacked, Subscribed, TooLarge, Unserved
from trimtab.xds.server_subscription import MAX_MESSAGE
from xds_peer import CDS, EDS, LDS, RDS, Plane, addresses, name_of, opened, service, snapshot

A = "a.shop:8080"
B = "b.shop:8080"


def of(name):
    return service(name)


def plane(*, synced=True, aliases=()):
    made = Plane(aliases=aliases)
    made.update(snapshot("10.0.0.1", of=of("a")), snapshot("10.0.1.1", of=of("b")))
    if synced:
        made.apply(Synced())
    return made


def names(response):
    return sorted(name_of(opened(r)) for r in response.resources)


def errors(response):
    return {e.resource_name.name: e.error_detail.message for e in response.resource_errors}


# ---- nothing before everything is known ----


@pytest.mark.parametrize("type_url", [CDS, EDS, LDS, RDS])
def test_nothing_is_answered_before_all_sources_are_applied(type_url):
    made = plane(synced=False)
    peer = made.sotw()
    peer.ask(type_url, A)
    made.update(snapshot("10.0.0.9", of=of("a")))

    assert peer.get() is None
    made.apply(Synced())
    assert names(peer.get()) == [A]


# ---- ACK, NACK, nonce ----


def test_an_ack_is_answered_with_silence():
    peer = plane().sotw()
    peer.ask(EDS, A)
    response = peer.get()
    peer.ack(response)

    assert peer.get() is None
    assert Acked(EDS, (A,), response.version_info) in peer.session.take_events()
    assert [s.state for s in peer.session.status()] == ["acked"]


def test_a_nacked_version_is_never_sent_again_until_the_content_changes():
    made = plane()
    peer = made.sotw()
    peer.ask(EDS, A)
    first = peer.get()
    peer.nack(first, "endpoints: bad")
    peer.ask(EDS, A)
    made.update(snapshot("10.0.1.2", of=of("b")))

    assert peer.get() is None
    made.update(snapshot("10.0.0.2", of=of("a")))
    assert addresses(opened(peer.get().resources[0])) == {"10.0.0.2"}
    made.update(snapshot("10.0.0.1", of=of("a")))
    assert peer.get() is None, "the refused content came back"


def test_a_nack_is_known_by_its_error_not_by_its_version():
    peer = plane().sotw()
    peer.ask(EDS, A)
    response = peer.get()
    peer.ask(EDS, A, nonce=response.nonce, version=response.version_info, error="no")

    (nack,) = [e for e in peer.session.take_events() if isinstance(e, Nacked)]
    assert (nack.names, nack.version, nack.text) == ((A,), response.version_info, "no")
    (status,) = peer.session.status()
    assert (status.state, status.error) == ("nacked", "no")


def test_an_answer_with_an_old_version_but_without_error_is_an_ack():
    peer = plane().sotw()
    peer.ask(EDS, A)
    response = peer.get()
    peer.ask(EDS, A, nonce=response.nonce, version="")

    assert [s.state for s in peer.session.status()] == ["acked"]


def test_a_stale_nonce_is_ignored():
    made = plane()
    peer = made.sotw()
    peer.ask(EDS, A)
    first = peer.get()
    peer.ack(first)
    made.update(snapshot("10.0.0.2", of=of("a")))
    peer.get()
    peer.ask(EDS, A, B, nonce=first.nonce)

    assert peer.get() is None, "the request was written before the client saw the last response"
    peer.ask(EDS, A, B)
    assert names(peer.get()) == [B]


def test_an_unknown_nonce_is_ignored():
    peer = plane().sotw()
    peer.ask(EDS, A)
    peer.drain()
    peer.ask(EDS, A, B, nonce="never-sent")

    assert peer.get() is None


def test_a_nonce_of_an_earlier_stream_does_not_lock_a_client_out():
    peer = plane().sotw()
    peer.ask(EDS, A, nonce="of-the-old-stream", version="1")

    assert names(peer.get()) == [A]


def test_each_of_several_unanswered_responses_is_acked_or_nacked_by_its_own_nonce():
    made = plane()
    peer = made.sotw()
    peer.ask(EDS, A, B)
    peer.drain()
    made.update(snapshot("10.0.0.2", of=of("a")), snapshot("10.0.1.2", of=of("b")))
    first, second = peer.get(), peer.get()
    assert (names(first), names(second)) == ([A], [B])
    peer.session.take_events()
    peer.nack(first, "bad")
    peer.ack(second)

    assert [type(e) for e in peer.session.take_events()] == [Nacked, Acked]


def test_new_names_do_not_starve_while_responses_follow_each_other():
    made = plane()
    peer = made.sotw()
    peer.ask(EDS, A)
    first = peer.get()
    made.update(snapshot("10.0.0.2", of=of("a")))
    assert peer.get() is not None
    peer.ask(EDS, A, B, nonce=first.nonce)

    assert names(peer.get()) == [B]


def test_nonces_are_not_repeated_on_a_stream():
    made = plane()
    peer = made.sotw()
    peer.ask(CDS)
    peer.ask(EDS, A)
    seen = [r.nonce for r in peer.drain()]
    for last in range(2, 30):
        made.update(snapshot(f"10.0.0.{last}", of=of("a")))
        seen += [r.nonce for r in peer.drain()]

    assert len(seen) == 30
    assert len(set(seen)) == len(seen)


# ---- names ----


def test_a_newly_named_resource_is_answered_though_it_did_not_change():
    peer = plane().sotw()
    peer.ask(EDS, A)
    peer.drain()
    peer.ask(EDS, A, B)

    assert names(peer.get()) == [B]


@pytest.mark.parametrize("type_url", [CDS, EDS, LDS, RDS])
def test_a_name_that_was_dropped_and_added_again_is_answered(type_url):
    peer = plane().sotw()
    peer.ask(type_url, A, B)
    peer.drain()
    peer.ask(type_url, B)
    assert peer.get() is None
    peer.ask(type_url, A, B)

    assert A in names(peer.get())


@pytest.mark.parametrize("type_url", [CDS, EDS, LDS, RDS])
def test_a_reconnected_client_is_answered_whatever_version_it_brings(type_url):
    made = plane()
    peer = made.sotw()
    peer.ask(type_url, A)
    version = peer.get().version_info
    again = made.sotw()
    again.ask(type_url, A, version=version)

    assert names(again.get()) == [A]


def test_a_restart_that_lost_a_service_does_not_tell_its_clients_that_it_never_was():
    # A Listener without a matching virtual host fails every request at once; native gRPC survives
    # an omitted one (bootstrap feature `ignore_resource_deletion`).
    peer = plane().sotw("gRPC C-core")
    peer.ask(LDS, "lost.shop:8080", version="from before the restart")

    response = peer.get()
    assert list(response.resources) == []


def test_versions_are_equal_on_every_replica():
    def version(made):
        peer = made.sotw()
        peer.ask(EDS, A)
        return peer.get().version_info

    replica = Plane()
    replica.update(snapshot("10.9.9.9", of=of("a")))
    replica.update(snapshot("10.0.0.1", of=of("a")))
    replica.apply(Synced())
    assert version(plane()) == version(replica)


def test_an_empty_first_list_means_all_clusters_but_no_endpoints():
    peer = plane().sotw("envoy")
    peer.ask(CDS)
    peer.ask(EDS)
    peer.ask(LDS)

    clusters, listeners = peer.drain()
    assert names(clusters) == [A, B]
    assert (listeners.type_url, len(listeners.resources)) == (LDS, 0)


def test_an_empty_list_after_names_means_none():
    made = plane()
    peer = made.sotw()
    peer.ask(CDS, A)
    peer.drain()
    peer.ask(CDS)
    made.update(snapshot("10.0.0.1", of=of("a"), policy=PolicyConfig("random")))

    assert peer.get() is None


def test_a_star_with_names_is_all_of_them():
    peer = plane().sotw("envoy")
    peer.ask(CDS, "*", "a.shop:grpc")

    assert names(peer.get()) == ["a.shop:8080", "a.shop:grpc", "b.shop:8080"]


def test_a_star_can_be_given_up():
    made = plane()
    peer = made.sotw("envoy")
    peer.ask(CDS, "*")
    peer.drain()
    peer.ask(CDS, A)
    peer.drain()
    made.update(snapshot("10.0.1.1", of=of("b"), policy=PolicyConfig("random")))

    assert peer.get() is None


def test_wildcard_subscribers_get_configured_aliases_too():
    alias = Alias("ratelimit-eds", "shop", "a", 8080)
    peer = plane(aliases=[alias]).sotw("envoy")
    peer.ask(CDS)
    peer.ask(EDS, "ratelimit-eds")

    clusters, endpoints = peer.drain()
    assert names(clusters) == [A, B, "ratelimit-eds"]
    assert names(endpoints) == ["ratelimit-eds"]
    assert addresses(opened(endpoints.resources[0])) == {"10.0.0.1"}


# ---- full sets and partial ones ----


def test_cds_and_lds_responses_carry_everything_that_is_subscribed():
    made = plane()
    peer = made.sotw()
    peer.ask(CDS, A, B)
    peer.ask(LDS, A)
    peer.drain()
    peer.ask(LDS, A, B)
    assert names(peer.get()) == [A, B]
    made.update(snapshot("10.0.0.1", of=of("a"), policy=PolicyConfig("random")))

    assert names(peer.get()) == [A, B]


def test_an_endpoint_change_sends_that_assignment_only():
    made = plane()
    peer = made.sotw()
    for type_url in (CDS, EDS, LDS, RDS):
        peer.ask(type_url, A, B)
    peer.drain()
    made.update(snapshot("10.0.0.2", of=of("a")))

    (response,) = peer.drain()
    assert (response.type_url, names(response)) == (EDS, [A])


def test_changed_endpoints_of_two_clusters_go_in_two_responses():
    made = plane()
    peer = made.sotw("envoy")
    peer.ask(EDS, A, B)
    assert names(peer.get()) == [A, B], "new names may share one"
    made.update(snapshot("10.0.0.2", of=of("a")), snapshot("10.0.1.2", of=of("b")))

    assert [names(r) for r in peer.drain()] == [[A], [B]]


def test_only_the_latest_state_is_sent_to_a_slow_client():
    made = plane()
    peer = made.sotw()
    peer.ask(EDS, A)
    peer.drain()
    for last in range(2, 50):
        made.update(snapshot(f"10.0.0.{last}", of=of("a")))

    (response,) = peer.drain()
    assert addresses(opened(response.resources[0])) == {"10.0.0.49"}


def test_a_change_that_the_client_cannot_see_sends_nothing():
    made = plane()
    peer = made.sotw()
    peer.ask(EDS, A)
    peer.drain()
    made.update(snapshot(Endpoint("10.0.0.1", 9000, node="n2", labels=(("a", "b"),)), of=of("a")))

    assert peer.get() is None


def test_clusters_come_before_endpoints_before_listeners_before_routes():
    peer = plane().sotw()
    for type_url in (RDS, LDS, EDS, CDS):
        peer.ask(type_url, A)

    assert [r.type_url for r in peer.drain()] == [CDS, EDS, LDS, RDS]


def test_after_a_change_of_a_cluster_its_endpoints_are_sent_again():
    made = plane()
    peers = [made.sotw("envoy"), made.sotw("gRPC Go")]
    for peer in peers:
        peer.ask(CDS, A, B)
        peer.ask(EDS, A, B)
        peer.drain()
    made.update(snapshot("10.0.0.1", of=of("a"), policy=PolicyConfig("round_robin")))

    for peer in peers:
        clusters, endpoints = peer.drain()
        assert (clusters.type_url, endpoints.type_url) == (CDS, EDS)
        assert names(endpoints) == [A]


# ---- absence ----


def test_an_unknown_listener_makes_native_grpc_fail_at_once():
    peer = plane().sotw("gRPC C-core")
    peer.ask(LDS, "aa.shop:8080")
    response = peer.get()

    listener = opened(response.resources[0])
    assert listener.name == "aa.shop:8080"
    assert b"no-such-service.invalid" in listener.SerializeToString()
    text = errors(response)["aa.shop:8080"]
    assert "no Service port is known as aa.shop:8080" in text
    assert A in text


@pytest.mark.parametrize(
    ("agent", "type_url"),
    [*(("trimtab", t) for t in (CDS, EDS, LDS, RDS)), ("envoy", CDS), ("envoy", LDS)],
)
def test_an_unknown_name_is_answered_at_once_with_an_error_that_names_it(agent, type_url):
    peer = plane().sotw(agent)
    peer.ask(type_url, "aa.shop:8080")
    response = peer.get()

    assert len(response.resources) == 0
    assert list(errors(response)) == ["aa.shop:8080"]
    assert response.resource_errors[0].error_detail.code == 5
    peer.ack(response)
    assert peer.get() is None, "told once"


@pytest.mark.parametrize("type_url", [CDS, EDS, LDS, RDS])
@pytest.mark.parametrize("agent", ["trimtab", "envoy", "gRPC Go"])
def test_an_unknown_name_that_is_born_later_is_sent(agent, type_url):
    made = plane()
    peer = made.sotw(agent)
    peer.ask(type_url, "c.shop:grpc")
    peer.drain()
    made.update(snapshot("10.0.2.1", of=of("c")))

    (response,) = peer.drain()
    assert names(response) == ["c.shop:grpc"]
    assert b"no-such-service" not in response.SerializeToString()
    assert not response.resource_errors


@pytest.mark.parametrize("type_url", [CDS, LDS])
@pytest.mark.parametrize("agent", ["envoy", "gRPC Go"])
def test_a_deleted_service_is_left_out_of_the_next_full_set(agent, type_url):
    made = plane()
    peer = made.sotw(agent)
    peer.ask(type_url, A, B)
    peer.drain()
    made.remove(A)

    (response,) = peer.drain()
    assert names(response) == [B]
    made.update(snapshot("10.0.0.1", of=of("a")))
    assert names(peer.get()) == [A, B]


def test_envoy_is_told_that_a_name_never_known_has_no_endpoints_so_that_it_can_start():
    made = plane()
    peer = made.sotw("envoy")
    peer.ask(EDS, "aa.shop:8080")
    response = peer.get()

    assert names(response) == ["aa.shop:8080"]
    assert addresses(opened(response.resources[0])) == set()
    peer.ack(response)
    assert peer.get() is None, "told once"
    made.update(snapshot("10.0.2.1", of=of("aa")))
    assert addresses(opened(peer.get().resources[0])) == {"10.0.2.1"}
    made.remove("aa.shop:8080")
    assert peer.get() is None, "it had endpoints"


def had_an_earlier_stream(_made, peer):
    peer.ask(EDS, "aa.shop:8080", version="from-the-old-stream")


def named_it_after_a_reconnection(_made, peer):
    peer.ask(EDS, A, version="from-the-old-stream")
    peer.drain()
    peer.ask(EDS, A, "aa.shop:8080")


def saw_it_deleted(made, peer):
    made.update(snapshot("10.0.2.1", of=of("aa")))
    made.remove("aa.shop:8080")
    peer.ask(EDS, "aa.shop:8080")


def dropped_endpoints_on_this_stream(_made, peer):
    peer.ask(EDS, A)
    peer.drain()
    peer.ask(EDS)
    peer.ask(EDS, "aa.shop:8080")


@pytest.mark.parametrize(
    "who",
    [
        had_an_earlier_stream,
        named_it_after_a_reconnection,
        saw_it_deleted,
        dropped_endpoints_on_this_stream,
    ],
)
def test_envoy_gets_no_empty_assignment_where_it_may_have_had_endpoints(who):
    made = plane()
    peer = made.sotw("envoy")
    who(made, peer)

    assert [r for m in peer.drain() for r in names(m)] == []


def test_endpoints_of_a_deleted_service_stay_as_they_are():
    made = plane()
    peer = made.sotw("envoy")
    peer.ask(EDS, A)
    peer.drain()
    made.remove(A)

    assert peer.get() is None


def test_a_client_that_reconnects_after_a_deletion_is_told_in_the_protocols_way():
    made = plane()
    made.remove(A)
    peer = made.sotw("gRPC Go")
    peer.ask(LDS, A, B, version="from-the-old-stream")

    assert names(peer.get()) == [B]


def test_a_cluster_that_only_ends_is_told_after_what_points_to_it():
    made = plane()
    peer = made.sotw()
    peer.ask(CDS, A)
    peer.ask(LDS, A)
    peer.drain()
    made.remove(A)

    assert [r.type_url for r in peer.drain()] == [LDS, CDS]


def test_a_name_follows_the_cluster_that_it_comes_to_mean():
    made = plane()
    peer = made.sotw("gRPC Go")
    peer.ask(EDS, "c.shop")
    peer.drain()
    made.update(snapshot("10.0.2.1", of=service("c", port=1, port_name="other")))
    assert addresses(opened(peer.drain()[0].resources[0])) == {"10.0.2.1"}
    made.update(snapshot("10.0.2.2", of=service("c", port=2, port_name="grpc")))

    assert addresses(opened(peer.drain()[0].resources[0])) == {"10.0.2.2"}


def test_a_name_that_was_dropped_is_forgotten_with_every_cluster_that_it_meant():
    made = plane()
    peer = made.sotw()
    made.update(snapshot("10.0.2.1", of=service("c", port=1, port_name="other")))
    peer.ask(EDS, "c.shop", A)
    peer.drain()
    made.update(snapshot("10.0.2.2", of=service("c", port=2, port_name="grpc")))
    peer.drain()
    peer.ask(EDS, A)
    made.update(snapshot("10.0.2.3", of=service("c", port=1, port_name="other")))
    made.update(snapshot("10.0.2.4", of=service("c", port=2, port_name="grpc")))

    assert peer.get() is None


def test_a_request_that_looks_like_an_ack_but_names_others_is_read():
    made = plane()
    peer = made.sotw()
    peer.ask(EDS, A)
    for address in ("10.0.0.2", "10.0.0.3"):
        peer.drain()
        made.update(snapshot(address, of=of("a")))
    response = peer.get()
    peer.names[EDS] = (B,)
    peer.ack(response)

    assert names(peer.get()) == [B]


# ---- one bad resource beside good ones ----


def test_a_bad_cluster_does_not_hold_back_the_good_ones_on_envoy():
    made = plane()
    peer = made.sotw("envoy")
    peer.ask(CDS)
    peer.nack(peer.get(), f"Error adding/updating cluster(s) {A}: bad")
    assert names(peer.get()) == [B], "Envoy applied nothing of the first response"
    made.update(snapshot("10.0.2.1", of=of("c")))

    assert names(peer.get()) == [B, "c.shop:8080"]


def test_a_bad_change_of_a_cluster_leaves_its_last_good_version_in_the_full_set():
    made = plane()
    peer = made.sotw("envoy")
    peer.ask(CDS)
    good = peer.drain()[0]
    made.update(snapshot("10.0.0.1", of=of("a"), policy=PolicyConfig("random")))
    peer.nack(peer.get(), f"{A}: bad")
    assert peer.get() is None
    made.update(snapshot("10.0.2.1", of=of("c")))

    response = peer.get()
    assert names(response) == [A, B, "c.shop:8080"]
    assert response.resources[0] == good.resources[0]


def returned(agent, asked, text, *, had=(A, B)):
    """A client that comes back with these clusters, and refuses what this stream has to say of b."""
    made = plane()
    before = made.sotw(agent)
    before.ask(CDS, *asked)
    version = before.drain()[0].version_info
    made.update(snapshot("10.0.1.1", of=of("b"), policy=PolicyConfig("random")))
    peer = made.sotw(agent)
    peer.ask(CDS, *asked, version=version)
    if had:
        peer.ask(EDS, *had, version=version)  # an Envoy does so for all that it has
    peer.nack(peer.get(), text)
    peer.drain()
    return made, peer


@pytest.mark.parametrize("text", [f"{B}: bad", "something is wrong"])
@pytest.mark.parametrize("asked", [(), (A, B, "c.shop:8080")])
@pytest.mark.parametrize("agent", ["envoy", "gRPC Go"])
def test_what_a_new_stream_s_client_refused_is_not_deleted_by_the_next_full_set(agent, asked, text):
    made, peer = returned(agent, asked, text)
    made.update(snapshot("10.0.2.1", of=of("c")))
    assert peer.get() is None, "the version of an earlier stream would go"

    made.update(snapshot("10.0.0.1", of=of("a"), policy=PolicyConfig("round_robin")))
    made.update(snapshot("10.0.1.1", of=of("b")))
    assert names(peer.get()) == [A, B, "c.shop:8080"]


@pytest.mark.parametrize("had", [(), (A,)])
def test_a_bad_cluster_that_an_envoy_never_had_holds_up_nothing(had):
    """Without endpoints asked for it has none; else one bad Cluster would hold up each return."""
    made, peer = returned("envoy", (), f"{B}: bad", had=had)
    made.update(snapshot("10.0.2.1", of=of("c")))
    (clusters,) = [r for r in peer.drain() if r.type_url == CDS]
    assert names(clusters) == [A, "c.shop:8080"]


@pytest.mark.parametrize("agent", ["envoy", "gRPC Go"])
def test_it_goes_when_its_service_goes_and_holds_up_nothing_then(agent):
    made, peer = returned(agent, (), f"{B}: bad")
    made.remove(B)
    assert names(peer.get()) == [A]
    made.update(snapshot("10.0.2.1", of=of("c")))
    assert names(peer.get()) == [A, "c.shop:8080"]


def test_once_a_response_was_accepted_a_bad_new_cluster_holds_up_nothing():
    made = plane()
    peer = made.sotw("envoy")
    peer.ask(CDS, version="from-the-old-stream")
    peer.drain()
    made.update(snapshot("10.0.2.1", of=of("c")))
    peer.nack(peer.get(), "c.shop:8080: bad")
    made.update(snapshot("10.0.3.1", of=of("d")))

    assert names(peer.get()) == [A, B, "d.shop:8080"]


def test_bad_endpoints_do_not_hold_back_those_of_other_clusters():
    peer = plane().sotw("envoy")
    peer.ask(EDS, A, B)
    peer.nack(peer.get(), f"{A}: bad")

    assert [names(r) for r in peer.drain()] == [[B]]


def test_a_nack_that_names_nothing_blames_all_that_was_new():
    peer = plane().sotw("envoy")
    peer.ask(EDS, A, B)
    peer.nack(peer.get(), "something is wrong")

    assert peer.get() is None
    assert [s.state for s in peer.session.status()] == ["nacked", "nacked"]


def test_native_grpc_keeps_the_good_part_of_a_nacked_response():
    peer = plane().sotw("gRPC Go")
    peer.ask(EDS, A, B)
    peer.nack(peer.get(), f"{A}: bad")

    assert peer.get() is None
    assert [s.state for s in peer.session.status()] == ["nacked", "acked"]


def test_content_that_came_back_while_an_answer_was_under_way_can_be_refused():
    made = plane()
    peer = made.sotw("envoy")
    peer.ask(CDS, A)
    first = peer.get()
    made.update(snapshot("10.0.0.1", of=of("a"), policy=PolicyConfig("random")))
    second = peer.get()
    peer.ack(first)
    made.update(snapshot("10.0.0.1", of=of("a")))
    third = peer.get()
    peer.ack(second)
    peer.nack(third, f"{A}: bad")
    made.update(snapshot("10.0.0.1", of=of("a"), policy=PolicyConfig("round_robin")))
    peer.drain()
    made.update(snapshot("10.0.0.1", of=of("a")))

    assert peer.get() is None


def test_what_a_full_set_leaves_out_while_it_is_under_way_is_sent_again():
    made = plane()
    peer = made.sotw("envoy")
    peer.ask(CDS, A, B)
    first = peer.get()
    random = snapshot("10.0.1.1", of=of("b"), policy=PolicyConfig("random"))
    made.update(random)
    second = peer.get()
    peer.nack(first, f"{B}: bad")
    made.update(snapshot("10.0.1.1", of=of("b")))
    without = peer.get()
    assert names(without) == [A], "its present version was refused, and no other accepted"
    peer.ack(second)
    peer.ack(without)  # and so it is gone
    made.update(random)

    assert names(peer.get()) == [A, B]


@pytest.mark.parametrize("asked", [(), (A, B)])
def test_a_removal_in_a_refused_response_is_told_again(asked):
    made = plane()
    peer = made.sotw("envoy")
    peer.ask(CDS, *asked)
    peer.drain()
    made.remove(A)
    made.update(snapshot("10.0.1.1", of=of("b"), policy=PolicyConfig("random")))
    peer.nack(peer.get(), f"{B}: bad")

    (response,) = peer.drain()
    assert names(response) == [B]


def test_of_a_long_nack_the_end_is_kept():
    peer = plane().sotw("envoy")
    peer.ask(EDS, A)
    peer.nack(peer.get(), "x" * 100_000 + "the reason")

    (nack,) = [e for e in peer.session.take_events() if isinstance(e, Nacked)]
    assert nack.text.endswith("the reason")
    assert len(nack.text) <= 2000


# ---- who and what ----


def test_the_node_of_the_first_request_counts_for_the_stream():
    made = plane()
    peer = made.sotw("envoy")
    peer.ask(CDS)
    peer.ask(EDS, A)

    assert peer.session.client.user_agent == "envoy"
    assert peer.session.client.node_id == "test"


def test_streams_share_what_their_clients_are_called_and_it_is_not_kept_for_ever():
    """Python 3.12.0 to 3.12.6 keeps for ever what is interned, and strangers can make up any number."""
    found = []
    for _ in range(2):
        peer = plane().sotw("made-up 1.0")
        peer.ask(CDS)
        found.append(peer.session.client.user_agent)
    assert found[0] is found[1]
    assert sys.intern("made-up 1.0") is not found[0]


def test_a_service_of_one_type_needs_no_type_url():
    peer = plane().sotw("envoy", type_url=EDS)
    peer.names[EDS] = (A,)
    peer.ask("", A)

    assert names(peer.get()) == [A]
    with pytest.raises(ProtocolError, match="this service serves"):
        peer.ask(CDS, A)


def test_an_aggregated_stream_needs_a_type_url():
    peer = plane().sotw()
    with pytest.raises(ProtocolError, match="type_url is empty"):
        peer.ask("", A)


def test_a_type_that_is_not_served_is_noted_and_not_answered():
    peer = plane().sotw("envoy")
    secret = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
    peer.ask(secret, "cert")
    peer.ask(secret, "cert", "more")

    assert peer.get() is None
    assert peer.session.take_events() == [Unserved(secret)]


def test_garbage_ends_the_stream():
    peer = plane().sotw()
    with pytest.raises(ProtocolError, match="not a DiscoveryRequest"):
        peer.session.receive(b"\xff\xff\xff")


@pytest.mark.parametrize(
    ("limits", "asked", "text"),
    [
        (Limits(names=2), ("a", "b", "c"), "3 names on one stream are more than the limit of 2"),
        (Limits(name_length=5), ("abcdef",), "6 characters are more than the limit of 5"),
        (Limits(request_bytes=90), ("a" * 40,), "bytes are more than the limit of 90"),
    ],
)
def test_a_request_beyond_a_limit_ends_the_stream(limits, asked, text):
    peer = plane().sotw(limits=limits)
    with pytest.raises(ProtocolError, match=text):
        peer.ask(EDS, *asked)


def test_the_limit_of_names_counts_all_types_and_forgets_dropped_names():
    peer = plane().sotw(limits=Limits(names=3))
    peer.ask(EDS, "a", "b")
    peer.ask(EDS, "a", "c")
    peer.ask(CDS, "a")
    with pytest.raises(ProtocolError, match="4 names"):
        peer.ask(CDS, "a", "b")


def test_subscriptions_are_reported_once():
    peer = plane().sotw()
    peer.ask(EDS, A)
    peer.ask(EDS, A, B)

    assert peer.session.take_events() == [Subscribed(EDS, (A,)), Subscribed(EDS, (B,))]


# ---- size ----


def test_many_assignments_are_split_over_messages_below_the_limit():
    made = Plane()
    many = [Endpoint(f"10.{i // 250}.{i % 250}.1", 9000) for i in range(20_000)]
    wanted = [f"s{n}.shop:8080" for n in range(8)]
    made.update(*(snapshot(*many, of=service(f"s{n}")) for n in range(8)))
    made.apply(Synced())
    peer = made.sotw("envoy")
    peer.ask(EDS, *wanted)

    raw = []
    while (message := peer.session.next_response()) is not None:
        raw.append(message)
    assert len(raw) > 1
    assert max(map(len, raw)) <= MAX_MESSAGE


def test_a_full_set_that_cannot_be_split_is_sent_and_said():
    made = Plane()
    made.update(*(snapshot("10.0.0.1", of=service(f"s{n}" + "x" * 400)) for n in range(3000)))
    made.apply(Synced())
    peer = made.sotw("envoy")
    peer.ask(CDS)

    assert len(peer.get().resources) == 3000
    (event,) = [e for e in peer.session.take_events() if isinstance(e, TooLarge)]
    assert event.size > event.limit == MAX_MESSAGE
