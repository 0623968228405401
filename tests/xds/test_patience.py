"""A delta client of all clusters that comes from a replica which has heard of more."""

from trimtab.model import Synced
from xds_peer import CDS, Plane, service, snapshot

A = "a.shop:8080"
B = "b.shop:8080"


def of(name):
    return service(name)


def plane():
    made = Plane()
    made.update(snapshot("10.0.0.1", of=of("a")))
    made.apply(Synced())
    return made


def known_elsewhere():
    """The versions of both clusters at a replica that knows both."""
    other = plane()
    other.update(snapshot("10.0.1.1", of=of("b")))
    peer = other.delta()
    peer.ask(CDS)
    return {r.name: r.version for response in peer.drain() for r in response.resources}


def test_what_this_replica_never_heard_of_is_not_said_to_be_gone_before_it_is_believed():
    peer = plane().delta(patient=True)
    peer.ask(CDS, initial=known_elsewhere())
    assert peer.get() is None
    assert peer.session.believe()
    assert list(peer.get().removed_resources) == [B]
    assert peer.get() is None


def test_what_turns_up_meanwhile_is_no_news_to_who_has_it_and_is_never_said_to_be_gone():
    made = plane()
    peer = made.delta(patient=True)
    peer.ask(CDS, initial=known_elsewhere())
    made.update(snapshot("10.0.1.1", of=of("b")))
    assert peer.get() is None
    assert not peer.session.believe()
    assert peer.get() is None


def test_what_this_replica_saw_deleted_is_said_to_be_gone_at_once():
    made = plane()
    made.update(snapshot("10.0.1.1", of=of("b")))
    made.remove(B)
    peer = made.delta(patient=True)
    peer.ask(CDS, initial=known_elsewhere())
    assert list(peer.get().removed_resources) == [B]


def test_what_is_deleted_while_it_is_in_doubt_is_said_to_be_gone():
    made = plane()
    peer = made.delta(patient=True)
    peer.ask(CDS, initial=known_elsewhere())
    made.update(snapshot("10.0.1.1", of=of("b")))
    made.remove(B)
    assert list(peer.get().removed_resources) == [B]


def test_after_its_time_a_stream_is_told_at_once():
    peer = plane().delta(patient=True)
    peer.session.believe()
    peer.ask(CDS, initial=known_elsewhere())
    assert list(peer.get().removed_resources) == [B]
