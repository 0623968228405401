"""``trimtab serve --kubeconfig`` on a real API server: what its objects mean to clients.

Unless a test says otherwise the real endpointslice controller writes the slices.
"""

import json

import pytest

from harness.kube import objects
from harness.kube.fixtures import traffic_of
from harness.kube.space import next_address, next_address_v6
from harness.waiting import Unmet, eventually

pytestmark = pytest.mark.processes

SLICES = 1000


def wait_counts(control_plane, cluster_name, *, within=15, **counts):
    """Wait until so many endpoints are ``ready``, ``draining``, ``unhealthy``; the others are 0."""

    def look():
        known = control_plane.endpoints(cluster_name)
        if known is None:
            return Unmet("unknown")
        seen = {health: n for health, n in known["counts"].items() if n}
        return known if seen == counts else Unmet(f"{seen}")

    return eventually(look, within=within, what=f"{cluster_name}: {counts}")


def wait_unknown(control_plane, cluster_name, *, within=15):
    eventually(
        lambda: control_plane.endpoints(cluster_name) is None,
        within=within,
        what=f"{cluster_name} is unknown",
    )


def test_pods_come_drain_and_go_under_load_without_an_error(
    kube_traffic, kube_control_plane, orders_pods, space
):
    name = space.cluster()
    wait_counts(kube_control_plane, name, ready=2)
    with kube_traffic.load() as load:
        load.comes_from("a", "b")
        (c,) = space.open("c")
        load.comes_from("a", "b", "c")
        space.drain(orders_pods["a"])
        wait_counts(kube_control_plane, name, ready=2, draining=1)
        load.comes_from("b", "c")
        space.remove(orders_pods["a"])
        wait_counts(kube_control_plane, name, ready=2)
        assert space.close(orders_pods["a"]) == 0
        space.set_ready(c, ready=False)
        load.comes_from("b")
        space.set_ready(c, ready=True)
        load.comes_from("b", "c")


def test_when_all_pods_terminate_they_serve_on_until_others_are_ready(
    kube_traffic, kube_control_plane, orders_pods, space
):
    wait_counts(kube_control_plane, space.cluster(), ready=2)
    with kube_traffic.load() as load:
        load.comes_from("a", "b")
        for pod in orders_pods.values():
            space.drain(pod)
        wait_counts(kube_control_plane, space.cluster(), draining=2)
        load.comes_from("a", "b")
        space.open("c")
        load.comes_from("c")


def test_a_service_that_comes_after_its_slices_is_served_and_one_that_goes_is_unknown(
    kube_control_plane, cluster, space, started
):
    (a,) = space.open("a")
    space.slice("early", a.addresses, of="orders")
    wait_unknown(kube_control_plane, space.cluster())
    service = space.service(selector=False)
    wait_counts(kube_control_plane, space.cluster(), ready=1)
    with traffic_of(kube_control_plane, space, started).load() as load:
        load.comes_from("a")
    cluster.api.admin.delete(service)
    wait_unknown(kube_control_plane, space.cluster())


def test_a_named_target_port_may_be_another_number_in_each_pod(kube_control_plane, space, started):
    space.service(ports=(("grpc", 8080, "grpc"), ("admin", 9090, "admin")))
    space.open_at("a", [next_address()], ports=(("grpc", 50051), ("admin", 50052)))
    space.open_at("b", [next_address()], ports=(("grpc", 50061), ("admin", 50062)))
    for port, numbers in ((8080, {"50051", "50061"}), (9090, {"50052", "50062"})):
        known = wait_counts(kube_control_plane, space.cluster(port=port), ready=2)
        assert {e["address"].rpartition(":")[2] for e in known["endpoints"]} == numbers
    with traffic_of(kube_control_plane, space, started).load() as load:
        load.comes_from("a", "b")


def test_addresses_that_are_published_before_they_are_ready_are_used(
    kube_control_plane, space, started
):
    space.service(publishNotReadyAddresses=True, clusterIP="None")
    space.open("a", ready=False)
    wait_counts(kube_control_plane, space.cluster(), ready=1)
    with traffic_of(kube_control_plane, space, started).load() as load:
        load.comes_from("a")


def test_a_dual_stack_pod_is_one_endpoint_with_both_addresses(kube_control_plane, space, started):
    space.service(ipFamilyPolicy="RequireDualStack", ipFamilies=["IPv6", "IPv4"])
    v4, v6 = next_address(), next_address_v6()
    space.open_at("a", [v4, v6])

    def look():
        known = kube_control_plane.endpoints(space.cluster())
        ends = known["endpoints"] if known else []
        return (len(ends) == 1 and "additional_addresses" in ends[0] and ends[0]) or Unmet(
            f"{ends}"
        )

    endpoint = eventually(look, within=15, what="one endpoint with two addresses")
    assert endpoint["address"] == f"[{v6}]:50051"
    assert endpoint["additional_addresses"] == [v4]
    with traffic_of(kube_control_plane, space, started).load() as load:
        load.comes_from("a")


def test_an_ipv6_service_is_reached(kube_control_plane, space, started):
    space.service(ipFamilyPolicy="SingleStack", ipFamilies=["IPv6"])
    v6 = next_address_v6()
    space.open_at("a", [next_address(), v6])
    known = wait_counts(kube_control_plane, space.cluster(), ready=1)
    assert known["endpoints"][0]["address"] == f"[{v6}]:50051"
    with traffic_of(kube_control_plane, space, started).load() as load:
        load.comes_from("a")


@pytest.mark.parametrize("distribution", ["PreferSameZone", "PreferSameNode", "PreferClose"])
def test_slices_with_hints_are_accepted_and_the_service_s_wish_is_known(
    kube_control_plane, cluster, space, distribution
):
    space.service(trafficDistribution=distribution)
    space.open("a", zone="z1")
    space.open("b", zone="z2")
    known = wait_counts(kube_control_plane, space.cluster(), ready=2)
    assert known["zones"] == {"z1": 1, "z2": 1}
    hinted = [
        e["hints"]
        for s in cluster.api.admin.all("EndpointSlice", space.name)
        for e in s["endpoints"]
    ]
    assert len(hinted) == 2  # the real controller's: what was accepted is the real thing
    why = json.loads(kube_control_plane.get(f"/api/v1/why?name={space.cluster()}")[1])
    assert {"setting": "zone", "value": "prefer", "from": "the Service"} in why["policy"]


def test_a_thousand_slices_are_one_service_and_go_as_they_came(
    kube_traffic, kube_control_plane, orders_pods, cluster, space
):
    wide = space.cluster("wide")
    with kube_traffic.load() as load:
        load.comes_from(*orders_pods)
        space.service("wide", selector=False)
        cluster.api.admin.create_all(
            objects.endpoint_slice(f"wide-{n}", space.name, [next_address()], of="wide")
            for n in range(SLICES)
        )
        wait_counts(kube_control_plane, wide, ready=SLICES, within=30)
        kube_control_plane.kill()
        kube_control_plane.start()  # this time they come as pages of a list
        wait_counts(kube_control_plane, wide, ready=SLICES, within=1)
        cluster.api.admin.delete(
            {"kind": "EndpointSlice", "metadata": {"name": "wide-7", "namespace": space.name}}
        )
        wait_counts(kube_control_plane, wide, ready=SLICES - 1)
        cluster.api.admin.delete_all(
            "EndpointSlice", space.name, selector="kubernetes.io/service-name=wide"
        )
        wait_counts(kube_control_plane, wide, within=30)
        load.comes_from(*orders_pods)
