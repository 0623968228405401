"""Whoever floods the xDS port with frames keeps nobody else from being served."""

import re
from pathlib import Path

import grpc
import pytest

from harness.http2_floods import FLOODS, Flood
from harness.waiting import Unmet, eventually
from trimtab.xds import type_urls, wire_pb2

pytestmark = pytest.mark.processes

ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
ANSWER_WITHIN_S = 10.0
QUESTIONS = 50
# Streams or frames that are sent before it is judged.
LEAST = {"rapid_reset": 20_000, "settings": 20_000, "pings": 20_000, "endless_headers": 1_000}
# What 20,000 streams leave is the heap's: 0.7 KB each; frames that are answered leave nothing.
MOST_GROWTH_MB = {"rapid_reset": 30.0, "settings": 10.0, "pings": 10.0}
# For headers beyond its limit gRPC's core (1.85.1) takes half a megabyte and more for each stream, faster
# than it lets go of it; so these are few.
FEW = {"header_bomb": 50, "large_metadata": 50}


def peak_mb(pid):
    """The most memory that was resident at once, ever [MB]."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def ask(address):
    """The first answer that a client gets which comes just now."""
    request = wire_pb2.DiscoveryRequest(
        node={"id": "bystander", "user_agent_name": "other"},
        type_url=type_urls.EDS,
        resource_names=["orders.shop:8080"],
    )
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, options=options) as channel:
        stream = channel.stream_stream(
            ADS,
            request_serializer=wire_pb2.DiscoveryRequest.SerializeToString,
            response_deserializer=wire_pb2.DiscoveryResponse.FromString,
        )(iter([request]), timeout=ANSWER_WITHIN_S)
        answer = next(stream)
        stream.cancel()
    return answer


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_of_frames_keeps_no_other_client_from_its_answer(name, control_plane, orders):
    del orders
    for _ in range(QUESTIONS):
        assert ask(control_plane.address).resources
    before = peak_mb(control_plane.pid)
    with Flood(FLOODS[name], control_plane.address, most=FEW.get(name)) as flood:
        eventually(lambda: flood.sent > 0, within=10, what="the flood begins")
        for _ in range(QUESTIONS):
            assert ask(control_plane.address).resources
        least = LEAST.get(name) or FEW[name]
        eventually(
            lambda: flood.sent >= least or Unmet(f"{flood.sent}"), within=90, what="all sent"
        )
        assert ask(control_plane.address).resources
    assert ask(control_plane.address).resources
    if name in MOST_GROWTH_MB:
        assert peak_mb(control_plane.pid) - before < MOST_GROWTH_MB[name]
