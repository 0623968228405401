"""Names of a cluster that a client makes up: a domain after ``svc`` may be anything."""

import gc
import tracemalloc

import pytest

from trimtab.model import Endpoint, PolicyConfig, Synced
from trimtab.xds import free_names
from trimtab.xds.names import Alias
from trimtab.xds.server_subscription import MOST_SPELLINGS
from xds_peer import CDS, EDS, LDS, RDS, Plane, addresses, name_of, opened, service, snapshot

CLUSTER = "orders.shop:8080"
AGENTS = ["gRPC Go", "envoy", "trimtab"]


def made_up(number):
    return f"orders.shop.svc.{number}.internal:8080"


def endpoints(count, second=0):
    return [Endpoint(f"10.{second}.{n // 250}.{n % 250 + 1}", 9000) for n in range(count)]


@pytest.fixture(params=["sotw", "delta"])
def variant(request):
    return request.param


def asked(plane, variant, names, type_url=EDS, agent="envoy"):
    """A client that asked for these."""
    peer = getattr(plane, variant)(agent)
    if variant == "delta":
        peer.ask(type_url, names)
    else:
        peer.ask(type_url, *names)
    return peer


def given(responses):
    return [opened(resource) for response in responses for resource in response.resources]


def test_any_number_of_them_takes_no_more_room_than_there_is(variant, monkeypatch):
    """A body has 35 KB for 1,000 endpoints, and a client's names are thousands."""
    room = 1 << 20
    monkeypatch.setattr(free_names, "MOST_BYTES", room)
    plane = Plane(Synced())
    plane.update(snapshot(*endpoints(1000)))
    whole = sum(
        len(opened(r).SerializeToString()) for r in asked(plane, variant, [CLUSTER]).get().resources
    )
    asked(plane, variant, [made_up("before")]).drain()

    def held():
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    streams, kinds = 32, (EDS, CDS, LDS, RDS)
    tracemalloc.start()
    try:
        before = held()
        for stream in range(streams):
            names = [made_up(f"{stream}-{n}") for n in range(MOST_SPELLINGS)]
            for kind in kinds:
                peer = asked(plane, variant, names, kind)
                while peer.session.next_response() is not None:  # and answers nothing
                    pass
                plane.peers.remove(peer)
        # They are gone; what they asked for would be ten times as much.
        assert streams * MOST_SPELLINGS * whole > 10 * room
        del peer
        assert held() - before < 1.5 * room
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("agent", AGENTS)
def test_a_domain_of_ones_own_is_answered_like_every_other_name(variant, agent):
    plane = Plane(Synced())
    plane.update(snapshot(*endpoints(3)))
    name = made_up("corp")
    for kind in (CDS, EDS, LDS, RDS):
        (usual,) = given(asked(plane, variant, [CLUSTER], kind, agent).drain())
        (own,) = given(asked(plane, variant, [name], kind, agent).drain())
        assert name_of(own) == name
        if kind in (CDS, EDS):
            assert str(own).replace(name, CLUSTER) == str(usual)


def test_what_changes_of_the_cluster_changes_under_such_a_name(variant):
    plane = Plane(Synced())
    plane.update(snapshot(*endpoints(2)))
    peer = asked(plane, variant, [made_up(1), CLUSTER])
    clusters = asked(plane, variant, [made_up(1)], CDS)
    for each in (peer, clusters):
        each.drain()
    plane.update(snapshot(*endpoints(2, second=1)))
    assert {name_of(m): len(addresses(m)) for m in given(peer.drain())} == {
        made_up(1): 2,
        CLUSTER: 2,
    }
    assert not clusters.drain()
    plane.update(snapshot(*endpoints(2, second=1), policy=PolicyConfig("random")))
    assert [name_of(m) for m in given(clusters.drain())] == [made_up(1)]
    # Envoy waits for the endpoints of a Cluster that has changed.
    assert {name_of(m) for m in given(peer.drain())} == {made_up(1), CLUSTER}


def test_beyond_sixteen_on_a_stream_they_mean_nothing_and_the_client_is_told_why(variant):
    plane = Plane(Synced())
    plane.update(snapshot("10.0.0.1"), snapshot("10.0.0.2", of=service("users")))
    names = [made_up(n) for n in range(MOST_SPELLINGS + 2)]
    everything = [*names, CLUSTER, "users.shop.svc.corp:8080"]
    peer = asked(plane, variant, everything, agent="gRPC Go")
    responses = peer.drain()
    texts = {
        e.resource_name.name: e.error_detail.message for r in responses for e in r.resource_errors
    }
    assert set(texts) == set(names[MOST_SPELLINGS:])
    assert all(
        "16 other names of orders.shop:8080 are asked for on this stream" in t
        for t in texts.values()
    )
    full = {name_of(m) for m in given(responses) if addresses(m)}
    assert full == {*names[:MOST_SPELLINGS], CLUSTER, "users.shop.svc.corp:8080"}


def test_names_of_the_configuration_do_not_count_among_them(variant):
    aliases = [Alias(f"alias-{n}", "shop", "orders", 8080) for n in range(2 * MOST_SPELLINGS)]
    plane = Plane(Synced(), aliases=aliases)
    plane.update(snapshot("10.0.0.1"))
    names = [*(a.name for a in aliases), *map(made_up, range(MOST_SPELLINGS))]
    assert {name_of(m) for m in given(asked(plane, variant, names).drain()) if addresses(m)} == set(
        names
    )
    names.insert(0, made_up("one too many"))
    assert (
        len([m for m in given(asked(plane, variant, names).drain()) if addresses(m)])
        == len(names) - 1
    )


def test_names_that_were_asked_for_before_the_service_was_there_count_too(variant):
    plane = Plane(Synced())
    peer = asked(plane, variant, [made_up(n) for n in range(100)], agent="gRPC Go")
    peer.drain()
    for number in (1, 2):
        plane.update(snapshot(f"10.0.0.{number}"))
        assert len([m for m in given(peer.drain()) if addresses(m)]) == MOST_SPELLINGS
    plane.remove(CLUSTER)
    peer.drain()
    plane.update(snapshot("10.0.0.3"))
    assert len([m for m in given(peer.drain()) if addresses(m)]) == MOST_SPELLINGS
