"""A Service's own settings change: the cluster changes in use, not only its endpoints."""

import pytest

from harness.client import Road
from harness.waiting import eventually

pytestmark = pytest.mark.processes

# Envoy warms a changed cluster until its endpoints are sent again, 15 s if they are not.
ACTIVE_WITHIN_S = 10


def test_a_changed_policy_is_active_in_envoy_at_once_and_costs_no_request(
    traffic, envoys, orders, manifests
):
    def policy(envoy):
        cluster = envoy.active_clusters()["orders.shop:8080"]
        return [
            p["typed_extension_config"]["typed_config"]["@type"].rpartition(".")[2]
            for p in cluster["load_balancing_policy"]["policies"]
        ]

    with traffic.load() as load:
        load.comes_from("a", "b")
        before = {n: policy(envoys[n]) for n in ("envoy-ads-sotw", "envoy-ads-delta")}
        manifests.write(
            "orders", "shop", orders.values(), annotations={"trimtab.dev/policy": "random"}
        )
        for name, old in before.items():
            eventually(
                lambda name=name, old=old: policy(envoys[name]) != old,
                within=ACTIVE_WITHIN_S,
                what=f"the new policy in use in {name} instead of {old}",
            )
        load.comes_from("a", "b")


def test_a_service_with_a_new_port_is_served_on_it_at_once(native, envoys, orders, manifests):
    manifests.write("orders", "shop", orders.values(), port=9090)
    for name in ("envoy-ads-sotw", "envoy-ads-delta"):
        envoys[name].wait_cluster("orders.shop:9090", within=ACTIVE_WITHIN_S)
        road = envoys[name].road("orders.shop:9090")
        assert native.call(road).server in {"a", "b"}
        # The alias names the port by its name, which moved with it.
        assert native.call(envoys[name].road("orders-eds")).server in {"a", "b"}


def test_requests_of_one_key_go_to_one_pod(native, trimtab, orders, manifests):
    annotations = {"trimtab.dev/policy": "ring_hash", "trimtab.dev/hash-key": "x-user"}
    manifests.write("keyed", "shop", orders.values(), annotations=annotations)
    for client in (native, trimtab):
        keyed = Road("xds:///keyed.shop:8080", {"x-user": "0"})
        eventually(lambda c=client, r=keyed: c.call(r).server, within=10, what="the new Service")
        servers = {}
        for user in map(str, range(12)):
            road = Road("xds:///keyed.shop:8080", {"x-user": user})
            servers[user] = {client.call(road).server for _ in range(8)}
        assert all(len(found) == 1 for found in servers.values()), servers
        assert set.union(*servers.values()) == {"a", "b"}, servers
