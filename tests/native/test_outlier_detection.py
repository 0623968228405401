"""A pod that fails whatever it is asked is left out by Envoy and native gRPC; never the only one."""

import pytest

from harness.client import Road
from harness.outliers import errors, leaves_out, reaches

pytestmark = pytest.mark.processes


@pytest.fixture
def broken(backends):
    """A pod that answers each request with UNAVAILABLE."""
    return backends.open_failing("broken")


@pytest.fixture(params=["envoy", "native"])
def road(request):
    """From native gRPC to the Service, through Envoy or by its own balancing."""
    if request.param == "native":
        return Road("xds:///orders.shop:grpc")
    return request.getfixturevalue("envoys")["envoy-ads-delta"].road("orders.shop:8080")


def test_a_pod_that_fails_is_left_out(native, road, orders, broken, manifests):
    manifests.write("orders", "shop", [*orders.values(), broken])
    reaches(native, road, "broken")
    leaves_out(native, road)


def test_it_stays_where_the_service_wants_no_outlier_detection(
    native, road, orders, broken, manifests
):
    off = {"trimtab.dev/outlier-detection": "off"}
    manifests.write("orders", "shop", [*orders.values(), broken], annotations=off)
    reaches(native, road, "broken")
    assert any(errors(native, road)[-40:])


def test_the_only_pod_is_never_left_out(native, road, orders, broken, manifests):
    del orders
    manifests.write("orders", "shop", [broken])
    reaches(native, road, "broken")
    seen = errors(native, road)
    assert len(seen) > 20  # or nobody would have looked
    # What it says, not Envoy's "no healthy upstream".
    assert all("is broken" in error for error in seen), set(seen)
