"""A catalog that a source is missing from: what nothing answers to is unknown, not absent."""

import pytest

from trimtab.model import Synced
from xds_peer import CDS, EDS, LDS, RDS, Plane, service, snapshot

A, B = "a.shop:8080", "b.shop:8080"


def plane():
    made = Plane()
    made.update(snapshot("10.0.0.1", of=service("a")))
    made.catalog.answer_incomplete()
    return made


@pytest.mark.parametrize("type_url", [CDS, EDS, LDS, RDS])
def test_delta_clients_are_told_what_is_known_and_nothing_of_the_rest(type_url):
    made = plane()
    peer = made.delta()
    peer.ask(type_url, [A, B], initial={B: "old"})
    response = peer.get()
    assert [r.name for r in response.resources] == [A]
    assert not response.removed_resources
    assert not response.resource_errors
    peer.ack(response)
    assert peer.get() is None
    made.apply(Synced())
    assert list(peer.get().removed_resources) == [B]


def test_a_wildcard_that_brings_versions_loses_none_of_them():
    made = plane()
    peer = made.delta()
    peer.ask(CDS, ["*"], initial={B: "old"})
    response = peer.get()
    assert [r.name for r in response.resources] == [A]
    assert not response.removed_resources
    made.apply(Synced())
    peer.ack(response)
    assert list(peer.get().removed_resources) == [B]


def test_a_name_that_becomes_known_is_answered():
    made = plane()
    peer = made.delta()
    peer.ask(EDS, [B])
    assert peer.get() is None
    made.update(snapshot("10.0.1.1", of=service("b")))
    assert [r.name for r in peer.get().resources] == [B]


@pytest.mark.parametrize("told_between", [True, False])
def test_what_a_late_source_brings_is_not_removed_once_all_is_known(told_between):
    made = plane()
    peer = made.delta()
    peer.ask(CDS, ["*"], initial={B: "old"})
    peer.ack(peer.get())
    made.update(snapshot("10.0.1.1", of=service("b")))
    if told_between:
        response = peer.get()
        assert [r.name for r in response.resources] == [B]
        peer.ack(response)
    made.apply(Synced())
    response = peer.get()
    if told_between:
        assert response is None
    else:
        assert [r.name for r in response.resources] == [B]
        assert not response.removed_resources


def test_what_a_late_source_brings_unchanged_is_not_sent_again():
    whole = Plane()
    whole.update(snapshot("10.0.1.1", of=service("b")))
    whole.apply(Synced())
    first = whole.delta()
    first.ask(CDS, ["*"])
    version = first.get().resources[0].version
    made = plane()
    peer = made.delta()
    peer.ask(CDS, ["*"], initial={B: version})
    peer.ack(peer.get())
    made.update(snapshot("10.0.1.1", of=service("b")))
    made.apply(Synced())
    assert peer.get() is None


@pytest.mark.parametrize("type_url", [CDS, LDS])
def test_a_full_set_is_not_told_to_a_client_that_may_have_more(type_url):
    made = plane()
    peer = made.sotw()
    peer.ask(type_url, A, B, version="old")
    assert peer.get() is None
    made.apply(Synced())
    assert len(peer.get().resources) >= 1


@pytest.mark.parametrize("type_url", [CDS, LDS])
def test_a_client_that_can_have_nothing_gets_what_is_known(type_url):
    peer = plane().sotw()
    peer.ask(type_url, A, B)
    response = peer.get()
    assert len(response.resources) == 1
    assert not response.resource_errors


def test_endpoints_flow_to_a_client_whose_full_sets_wait():
    made = plane()
    peer = made.sotw()
    peer.ask(EDS, A, B, version="old")
    assert len(peer.get().resources) == 1
