"""Endpoints that come and go while requests flow over every kind of client."""

import pytest

pytestmark = pytest.mark.processes


def test_endpoints_come_drain_and_go_under_load_without_an_error(
    traffic, orders, backends, manifests
):
    a, b = orders.values()
    with traffic.load() as load:
        load.comes_from("a", "b")

        (c,) = backends.open("c")
        manifests.write("orders", "shop", [a, b, c])
        load.comes_from("a", "b", "c")

        manifests.write("orders", "shop", [a.draining(), b, c])
        load.comes_from("b", "c")

        manifests.write("orders", "shop", [b, c])
        assert backends.close("a") == 0
        load.comes_from("b", "c")


def test_a_draining_endpoint_finishes_what_it_has(traffic, orders, backends, manifests):
    a, b = orders.values()
    with traffic.load() as load:
        load.comes_from("a", "b")
        # Two servers take turns or are drawn: some of these calls are with the one that leaves.
        calls = [
            (client, client.begin_call(road, work_ms=1500))
            for client, roads in traffic.clients
            for road in roads.values()
            for _ in range(4)
        ]
        load.goes_on(5)
        manifests.write("orders", "shop", [a.draining(), b])
        load.comes_from("b")
        manifests.write("orders", "shop", [b])
        assert backends.close("a") == 0
        servers = {client.end_call(call).server for client, call in calls}
    assert servers == {"a", "b"}


def test_all_endpoints_are_replaced_at_once_without_an_error(traffic, orders, backends, manifests):
    with traffic.load() as load:
        load.comes_from("a", "b")
        manifests.write("orders", "shop", backends.open("c", "d"))
        load.comes_from("c", "d")
        assert [backends.close(name) for name in orders] == [0, 0]
        load.comes_from("c", "d")


def test_when_all_endpoints_drain_they_still_serve(traffic, orders, manifests):
    with traffic.load() as load:
        load.comes_from("a", "b")
        manifests.write("orders", "shop", [pod.draining() for pod in orders.values()])
        load.goes_on(10)
        load.comes_from("a", "b")


def test_many_rotations_under_load_cause_no_error(traffic, orders, backends, manifests):
    pods = list(orders.values()) + backends.open("c", "d", "e", "f")
    with traffic.load() as load:
        for turn in range(20):
            gone = {turn % 6, (turn + 1) % 6, (turn + 2) % 6}
            manifests.write("orders", "shop", [p for i, p in enumerate(pods) if i not in gone])
            load.goes_on(2)
        manifests.write("orders", "shop", pods)
        load.comes_from("a", "b", "c", "d", "e", "f", within=20)
