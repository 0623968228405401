"""What every gRPC client of another language must be able to do with a trimtab control plane.

A module imports these tests and defines ``client``. The fixture ``control_plane`` fails every test in
which a client rejected anything.
"""

import itertools

import pytest

from harness.client import Road
from harness.outliers import errors, leaves_out, reaches
from harness.waiting import Unmet, eventually

ORDERS = Road("xds:///orders.shop:8080")
MISSING = Road("xds:///missing.shop:8080")
RETURN_WITHIN_S = 40  # a client's own back-off may have grown to half a minute
NAMES = (
    "orders.shop:8080",
    "orders.shop:grpc",
    "orders.shop",
    "orders.shop.svc.cluster.local:grpc",
    "orders",
    "orders-eds",
)


def reach(client):
    """Call until the client has its endpoints.

    On a busy machine a virtual machine's own start takes longer than a client's patience; load from
    its first moment on would test that.
    """

    def look():
        answer = client.call(ORDERS, within=20)
        return answer.server or Unmet(f"{answer}")

    eventually(look, within=40, what="an answer")


@pytest.mark.parametrize("name", NAMES)
def test_a_service_answers_to_all_its_names(client, name):
    answer = client.call(Road(f"xds:///{name}"), within=20)
    assert answer.server in {"a", "b"}, answer


def test_changes_are_followed_under_load_without_an_error(client, orders, backends, manifests):
    a, b = orders.values()
    reach(client)
    with client.load({"client": ORDERS}, rate=100) as load:
        load.comes_from("a", "b", within=20)
        (c,) = backends.open("c")
        manifests.write("orders", "shop", [a, b, c])
        load.comes_from("a", "b", "c")
        manifests.write("orders", "shop", [a.draining(), b, c])
        load.comes_from("b", "c")
        manifests.write("orders", "shop", [b, c])
        assert backends.close("a") == 0
        load.comes_from("b", "c")


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_a_control_plane_that_goes_and_comes_costs_no_request(
    client, orders, control_plane, backends, manifests, how
):
    (c,) = backends.open("c")
    reach(client)
    with client.load({"client": ORDERS}, rate=100) as load:
        load.comes_from("a", "b", within=20)
        getattr(control_plane, how)()
        load.goes_on(50)
        manifests.write("orders", "shop", [*orders.values(), c])
        control_plane.start()
        load.comes_from("a", "b", "c", within=RETURN_WITHIN_S)


def test_an_unknown_service_fails_within_a_second_and_says_which(client):
    assert client.call(ORDERS, within=20).server
    answer = client.call(MISSING, within=20)
    assert answer.error.startswith("UNAVAILABLE"), answer
    assert "missing" in answer.error
    assert answer.seconds < 1


def test_a_service_that_was_unknown_is_reached_once_it_exists(client, backends, manifests):
    assert client.call(MISSING, within=20).error.startswith("UNAVAILABLE")
    manifests.write("missing", "shop", backends.open("found"))
    client.wait_answer(MISSING, "found")


def test_everything_that_is_sent_is_accepted(client, control_plane):
    assert client.call(ORDERS, within=20).server in {"a", "b"}
    control_plane.wait_acked()
    (stream,) = control_plane.clients()
    assert {"Listener", "Cluster", "ClusterLoadAssignment"} <= {
        r["type"] for r in stream["resources"]
    }


def test_a_pod_that_fails_is_left_out_and_the_only_one_never(client, orders, backends, manifests):
    broken, alone = backends.open_failing("broken"), backends.open_failing("alone")
    manifests.write("orders", "shop", [*orders.values(), broken])
    manifests.write("alone", "shop", [alone])
    reaches(client, ORDERS, "broken")
    leaves_out(client, ORDERS)
    only = Road("xds:///alone.shop:8080")
    reaches(client, only, "alone")
    seen = errors(client, only)
    assert len(seen) > 20
    assert all("alone is broken" in error for error in seen), set(seen)


POLICIES = {
    "plain": {},
    "in-turn": {"policy": "round_robin", "zone": "off"},
    "by-chance": {"policy": "random"},
    "by-ring": {"policy": "ring_hash", "hash-key": "x-user"},
    "by-maglev": {"policy": "ring_hash", "hash-key": "x-user", "hash-table": "maglev"},
    "by-reports": {"policy": "weighted_round_robin"},
    "without-ejection": {"outlier-detection": "off", "max-requests": "10", "slow-start": "0"},
}


def test_every_configuration_is_accepted_and_every_endpoint_gets_requests(
    client, control_plane, orders, manifests
):
    for name, asked in POLICIES.items():
        annotations = {f"trimtab.dev/{key}": value for key, value in asked.items()}
        manifests.write(name, "shop", orders.values(), annotations=annotations)
    for name in POLICIES:
        served = set()
        users = itertools.count()

        def look(name=name, served=served, users=users):
            road = Road(f"xds:///{name}.shop:8080", {"x-user": f"user-{next(users)}"})
            answer = client.call(road, within=20)
            if answer.server:
                served.add(answer.server)
            else:  # the file may not be read yet
                assert not served, answer
            return served == set(orders) or Unmet(f"{name}: only {served}; {answer.error}")

        # A client may send a hundred before it is connected to the second server.
        eventually(look, within=20, what=f"every endpoint of {name} to get a request")
    control_plane.wait_acked()
