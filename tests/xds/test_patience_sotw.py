"""A state-of-the-world Envoy of all clusters that comes from a replica which has heard of more."""

import pytest

from trimtab.model import Synced
from xds_peer import CDS, EDS, Plane, addresses, name_of, opened, service, snapshot

A = "a.shop:8080"
B = "b.shop:8080"


def plane(*names):
    made = Plane()
    for number, name in enumerate(names):
        made.update(snapshot(f"10.0.{number}.1", of=service(name)))
    made.apply(Synced())
    return made


def versions(*names):
    """What an Envoy says that it has, by type, after a stream of a replica that knows these."""
    peer = plane(*names).sotw("envoy")
    peer.ask(CDS)
    peer.ask(EDS, *(f"{name}.shop:8080" for name in names))
    peer.drain()
    return peer.versions


def returning(made, had, **options):
    """An Envoy that asks for clusters, on a new stream."""
    peer = made.sotw(**{"user_agent": "envoy", "patient": True, **options})
    peer.versions.update(had)
    peer.ask(CDS)
    return peer


def told(peer):
    """What the next response brings: its type, and the names in it."""
    response = peer.get()
    if response is None:
        return None
    peer.ack(response)
    return response.type_url, sorted(name_of(opened(r)) for r in response.resources)


def test_an_envoy_is_not_told_all_clusters_while_it_has_one_that_is_unheard_of_before_it_is_believed():
    peer = returning(plane("a"), versions("a", "b"))
    assert told(peer) is None  # which it has, it says next
    peer.ask(EDS, A, B)
    assert told(peer) == (EDS, [A])
    assert told(peer) is None
    assert peer.session.believe()
    assert told(peer) == (CDS, [A])


def test_endpoints_of_what_is_known_follow_meanwhile():
    made = plane("a")
    peer = returning(made, versions("a", "b"))
    peer.ask(EDS, A, B)
    assert told(peer) == (EDS, [A])
    made.update(snapshot("10.0.7.7", of=service("a")))
    response = peer.get()
    assert addresses(opened(response.resources[0])) == {"10.0.7.7"}


def test_what_turns_up_meanwhile_ends_the_wait():
    made = plane("a")
    peer = returning(made, versions("a", "b"))
    peer.ask(EDS, A, B)
    peer.drain()
    made.update(snapshot("10.0.1.1", of=service("b")))
    assert told(peer) == (CDS, [A, B])
    made.remove(B)
    assert told(peer) == (CDS, [A])


def test_what_this_replica_saw_deleted_does_not_make_it_wait():
    made = plane("a", "b")
    made.remove(B)
    peer = returning(made, versions("a", "b"))
    peer.ask(EDS, A, B)
    assert told(peer) == (CDS, [A])


def test_an_envoy_whose_clusters_are_all_known_is_told_at_once():
    peer = returning(plane("a", "b", "c"), versions("a", "b"))
    peer.ask(EDS, A, B)
    assert told(peer) == (CDS, [A, B, "c.shop:8080"])


@pytest.mark.parametrize(
    ("had", "options"),
    [
        pytest.param((), {}, id="an Envoy that was told of no cluster"),
        pytest.param(None, {}, id="an Envoy that just started"),
        pytest.param("ab", {"user_agent": "gRPC Go"}, id="another client"),
        pytest.param(
            "ab", {"type_url": CDS}, id="an Envoy whose endpoints have a stream of their own"
        ),
        pytest.param("ab", {"patient": False}, id="a stream without patience"),
    ],
)
def test_others_are_told_at_once(had, options):
    peer = returning(plane("a"), {} if had is None else versions(*had), **options)
    assert told(peer) == (CDS, [A])
