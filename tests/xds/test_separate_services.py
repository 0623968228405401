"""What Envoy needs when it has no aggregated stream: sources in Clusters, answers for routes."""

import pytest
from envoy.config.core.v3 import config_source_pb2

from trimtab.errors import ProtocolError
from trimtab.model import PolicyConfig, Synced, Updated
from trimtab.xds import cluster_views
from xds_peer import CDS, EDS, RDS, Plane, node, opened, service, snapshot

A = "a.shop:8080"
MISSING = "aa.shop:8080"
API = config_source_pb2.ApiConfigSource


def plane():
    return Plane(Updated(snapshot("10.0.0.1", of=service("a"))), Synced())


def peer_of(made, transport, type_url=None, eds_cluster=None):
    peer = getattr(made, transport)("envoy", type_url=type_url)
    if eds_cluster is not None:
        peer.node = node("envoy", **{"trimtab.dev/eds-cluster": eds_cluster})
    return peer


def ask(peer, type_url, *names):
    if hasattr(peer, "names"):
        peer.ask(type_url, *names)
    else:
        peer.ask(type_url, names)


def first(response):
    (found,) = response.resources
    return opened(getattr(found, "resource", found))


def source(cluster):
    return cluster.eds_cluster_config.eds_config


@pytest.mark.parametrize(("transport", "api"), [("sotw", API.GRPC), ("delta", API.DELTA_GRPC)])
def test_a_cluster_of_the_separate_service_names_the_way_to_its_endpoints(transport, api):
    peer = peer_of(plane(), transport, CDS, "control-plane")
    ask(peer, CDS)
    found = source(first(peer.get()))

    (way,) = found.api_config_source.grpc_services
    assert way.envoy_grpc.cluster_name == "control-plane"
    assert found.api_config_source.api_type == api
    assert found.api_config_source.transport_api_version == config_source_pb2.V3
    assert found.resource_api_version == config_source_pb2.V3


@pytest.mark.parametrize(
    ("type_url", "eds_cluster"), [(None, "control-plane"), (None, None), (CDS, None)]
)
def test_any_other_cluster_has_its_endpoints_on_the_aggregated_stream(type_url, eds_cluster):
    peer = peer_of(plane(), "sotw", type_url, eds_cluster)
    ask(peer, CDS)

    assert source(first(peer.get())).WhichOneof("config_source_specifier") == "ads"


def test_a_changed_policy_reaches_a_cluster_with_a_way_of_its_own():
    made = plane()
    peer = peer_of(made, "sotw", CDS, "control-plane")
    ask(peer, CDS)
    before = peer.get()
    peer.ack(before)
    made.update(snapshot("10.0.0.2", of=service("a")))
    assert peer.get() is None, "endpoints are no part of it"
    made.update(snapshot("10.0.0.2", of=service("a"), policy=PolicyConfig("random")))

    after = peer.get()
    assert first(after) != first(before)
    assert source(first(after)) == source(first(before))


@pytest.mark.parametrize("bad", ["", "x" * 513, 7.0, {"cluster": "control-plane"}])
def test_a_way_that_is_no_name_ends_the_stream_with_an_error_that_says_where(bad):
    peer = peer_of(plane(), "sotw", CDS, bad)
    with pytest.raises(ProtocolError, match=r"node\.metadata\['trimtab\.dev/eds-cluster'\]"):
        ask(peer, CDS)


def test_only_so_many_ways_are_kept_per_cluster():
    made = plane()
    for i in range(cluster_views._MAX_SOURCED + 1):
        peer = peer_of(made, "sotw", CDS, f"control-plane-{i}")
        ask(peer, CDS)
        assert source(first(peer.get())).HasField("api_config_source")

    assert len(made.catalog._clusters[A].sourced) == cluster_views._MAX_SOURCED


@pytest.mark.parametrize("transport", ["sotw", "delta"])
def test_envoy_is_told_that_a_name_never_known_has_no_routes_so_that_it_can_start(transport):
    made = plane()
    peer = peer_of(made, transport, RDS)
    ask(peer, RDS, MISSING)
    response = peer.get()

    assert first(response).name == MISSING
    assert not first(response).virtual_hosts
    peer.ack(response)
    assert peer.get() is None, "told once"
    made.update(snapshot("10.0.2.1", of=service("aa")))
    response = peer.get()
    assert first(response).virtual_hosts
    peer.ack(response)
    made.remove(MISSING)
    assert [list(m.resources) for m in peer.drain()] in ([], [[]]), "it had routes"


def test_envoy_keeps_the_routes_that_an_earlier_stream_gave_it():
    made = plane()
    sotw, delta = peer_of(made, "sotw", RDS), peer_of(made, "delta", RDS)
    sotw.ask(RDS, MISSING, version="from-the-old-stream")
    delta.ask(RDS, [MISSING], initial={MISSING: "from-the-old-stream"})

    for peer in (sotw, delta):
        assert [r for m in peer.drain() for r in m.resources] == []


def test_the_endpoint_stream_of_such_an_envoy_is_like_any_other():
    made = plane()
    bodies = []
    for eds_cluster in ("control-plane", None):
        peer = peer_of(made, "sotw", EDS, eds_cluster)
        ask(peer, EDS, A)
        bodies.append(peer.get().SerializeToString())
    assert bodies[0] == bodies[1]
