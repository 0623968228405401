"""A service that nobody knows: an error at once, which says so."""

import pytest

from harness.client import Road
from harness.envoy import Envoy, endpoints_only
from harness.waiting import measured

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("kind", ["native", "trimtab"])
def test_an_unknown_service_fails_within_a_second_and_is_named(kind, request):
    client = request.getfixturevalue(kind)
    took = []
    while not measured(took, below=1):
        missing = f"missing-{len(took)}.shop:8080"
        answer = client.call(Road(f"xds:///{missing}"), within=5)
        assert answer.error.startswith("UNAVAILABLE")
        assert missing in answer.error
        took.append(answer.seconds)
    assert min(took) < 1


@pytest.mark.parametrize("kind", ["native", "trimtab"])
def test_a_service_that_was_unknown_is_reached_once_it_exists(kind, request, backends, manifests):
    client = request.getfixturevalue(kind)
    road = Road("xds:///late.shop:grpc")
    assert client.call(road, within=5).error.startswith("UNAVAILABLE")
    manifests.write("late", "shop", backends.open("late"))
    client.wait_answer(road, "late")


def test_an_unknown_service_disturbs_no_other(native):
    native.call(Road("xds:///missing.shop:8080"), within=5)
    assert native.call(Road("xds:///orders.shop:8080")).server in {"a", "b"}


@pytest.mark.parametrize("transport", ["sotw", "delta"])
def test_an_unknown_service_does_not_delay_the_start_of_envoy(
    transport, control_plane, started, tmp_path, native
):
    clusters = {"orders": "orders.shop:8080", "nobody": "missing.shop:8080"}
    bootstrap = endpoints_only("unknown", control_plane.address, transport, clusters)
    envoy = started(Envoy("unknown", bootstrap, tmp_path))
    envoy.wait_ready()  # in less time than Envoy waits for an answer
    envoy.wait_cluster("orders")
    assert native.call(envoy.road("orders")).server in {"a", "b"}
