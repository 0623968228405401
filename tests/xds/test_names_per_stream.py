"""How many names one stream may ask for: those of clusters that there are don't count."""

import functools

import pytest

from trimtab.errors import ProtocolError
from trimtab.model import Removed, Synced, Updated
from trimtab.xds.names import Alias
from trimtab.xds.server_session import Limits
from xds_peer import CDS, EDS, Plane, name_of, opened, service, snapshot

MANY = 10_001
CLUSTERS = [
    service(f"a-service-with-an-ordinary-name-{number}", "a-team-with-an-ordinary-name")
    for number in range(MANY)
]
A, B, C = (service(name).cluster for name in "abc")
TWO = Limits(names=2)


@functools.cache
def large():
    made = Plane()
    for of in CLUSTERS:
        made.catalog.apply(Updated(snapshot("10.0.0.1", of=of)))
    made.catalog.apply(Synced())
    return made


def small(*events, aliases=()):
    return Plane(
        *(Updated(snapshot("10.0.0.1", of=service(name))) for name in "abc"),
        *(events or (Synced(),)),
        aliases=aliases,
    )


def names(responses):
    return {name_of(opened(r)) for response in responses for r in response.resources}


def test_an_envoy_of_more_clusters_than_the_limit_gets_the_endpoints_of_all_by_delta():
    everything = {of.cluster for of in CLUSTERS}
    peer = large().delta()
    peer.ask(CDS)
    given = peer.drain()
    assert names(given) == everything
    peer.ask(EDS, everything)
    endpoints = peer.drain()
    assert names(endpoints) == everything
    again = large().delta()  # it says what it has, which takes more than the names alone
    again.ask(CDS, initial={r.name: r.version for part in given for r in part.resources})
    again.ask(
        EDS,
        everything,
        initial={r.name: r.version for part in endpoints for r in part.resources},
    )
    assert names(again.drain()) == set()


def test_an_envoy_of_more_clusters_than_the_limit_gets_the_endpoints_of_all_by_full_state():
    everything = {of.cluster for of in CLUSTERS}
    peer = large().sotw("envoy")
    peer.ask(CDS)
    assert names(peer.drain()) == everything
    peer.ask(EDS, *everything)
    assert names(peer.drain()) == everything


def asked(peer, *more):
    """Ask for these too."""
    if hasattr(peer, "names"):
        peer.ask(EDS, *peer.names.get(EDS, ()), *more)
    else:
        peer.ask(EDS, more)


@pytest.fixture(params=["delta", "sotw"])
def variant(request):
    return request.param


def test_names_that_mean_nothing_count_beside_any_number_of_clusters(variant):
    peer = getattr(small(), variant)(limits=TWO)
    asked(peer, A, B, C)
    asked(peer, "nothing", "nowhere")
    with pytest.raises(ProtocolError, match="3 names on one stream are more than the limit of 2"):
        asked(peer, "never")


def test_other_spellings_of_a_clusters_name_count_and_the_configurations_do_not(variant):
    plane = small(aliases=[Alias("mine", "shop", "a", 8080)])
    peer = getattr(plane, variant)(limits=TWO)
    asked(peer, A, B, "mine", "a.shop", "a.shop:grpc")
    with pytest.raises(ProtocolError, match="3 names"):
        asked(peer, "a.shop.svc.cluster.local:8080")


def test_a_cluster_that_the_client_may_not_see_counts(variant):
    class Nobody:
        def sees(self, _service):
            return False

    peer = getattr(small(), variant)(limits=TWO, audience=Nobody())
    with pytest.raises(ProtocolError, match="3 names"):
        asked(peer, A, B, C)


def test_before_all_is_known_four_times_as_many_names_are_taken_and_counted_later(variant):
    plane = small(Removed("none"))
    peer = getattr(plane, variant)(limits=TWO)
    later = [f"{number}.shop:8080" for number in range(8)]
    asked(peer, *later)
    with pytest.raises(ProtocolError, match="9 names"):
        asked(peer, "nothing")
    for number in range(8):
        plane.update(snapshot("10.0.0.1", of=service(str(number))))
    plane.apply(Synced())
    asked(peer, "nothing", "nowhere")
    with pytest.raises(ProtocolError, match="3 names"):
        asked(peer, "never")


def test_a_list_of_names_far_beyond_the_limit_is_not_looked_at(variant):
    peer = getattr(small(), variant)(limits=Limits(names=2, name_length=1))
    with pytest.raises(ProtocolError, match="12 names"):  # the length of a name comes later
        asked(peer, *(f"nothing {number}" for number in range(12)))
