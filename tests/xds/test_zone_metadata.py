"""What a control plane says to a client of zones, on the localities of its endpoints."""

import pytest
from envoy.config.endpoint.v3 import endpoint_pb2

from trimtab.errors import ProtocolError
from trimtab.model import ZoneSplit
from trimtab.xds.endpoint_decoding import AssignmentDecoder


def said(*zones):
    """Pairs of a zone and its metadata, one endpoint each."""
    found = endpoint_pb2.ClusterLoadAssignment(cluster_name="orders")
    for number, (zone, facts) in enumerate(zones, 1):
        group = found.endpoints.add()
        group.locality.zone = zone
        address = group.lb_endpoints.add().endpoint.address.socket_address
        address.address, address.port_value = f"10.0.0.{number}", 80
        if facts:
            group.metadata.filter_metadata["trimtab.dev"].update(facts)
    return AssignmentDecoder().decode(found.SerializeToString()).zones


def test_the_client_s_zone_and_the_split_are_read():
    zones = said(
        ("b", {"base": 0.25, "client_zone": "a"}), ("a", {"base": 0.75, "client_zone": "a"})
    )
    assert zones == ZoneSplit("a", (("a", 0.75), ("b", 0.25)))


def test_a_zone_may_come_without_a_split():
    assert said(("a", {"client_zone": "a"}), ("b", None)) == ZoneSplit("a")


def test_another_control_plane_says_nothing():
    assert said(("a", None), ("b", {"priority": 0})) is None


def test_a_split_that_sends_nothing_anywhere_is_none():
    assert said(("a", {"base": 0}), ("b", {"base": 0})) is None


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan"), float("inf")])
def test_a_share_that_is_no_part_is_refused(share):
    with pytest.raises(ProtocolError, match=r"endpoints\[1\]\.metadata base: .*give 0 to 1"):
        said(("a", {"base": 0.5}), ("b", {"base": share}))
