"""A pod that fails whatever it is asked is left out by Envoy; never the only one."""

import pytest

from harness.waiting import Unmet, eventually

pytestmark = pytest.mark.processes

IN_A_ROW = 20


def in_a_row(native, road):
    """How many of some calls end well."""
    answers = [native.call(road) for _ in range(IN_A_ROW)]
    return sum(answer.server is not None for answer in answers)


def test_envoy_leaves_out_a_pod_that_fails(native, envoys, orders, backends, manifests):
    broken = backends.open_failing("broken")
    manifests.write("orders", "shop", [*orders.values(), broken])
    road = envoys["envoy-ads-delta"].road("orders.shop:8080")
    eventually(
        lambda: native.call(road).error is not None, within=20, what="a request at the broken pod"
    )

    def healed():
        served = in_a_row(native, road)
        return served == IN_A_ROW or Unmet(f"{served} of {IN_A_ROW} served")

    eventually(healed, within=20, what="only good answers")


def test_the_broken_pod_stays_where_the_service_wants_no_outlier_detection(
    native, envoys, orders, backends, manifests
):
    broken = backends.open_failing("broken")
    manifests.write(
        "orders",
        "shop",
        [*orders.values(), broken],
        annotations={"trimtab.dev/outlier-detection": "off"},
    )
    road = envoys["envoy-ads-delta"].road("orders.shop:8080")
    eventually(
        lambda: native.call(road).error is not None, within=20, what="a request at the broken pod"
    )
    assert in_a_row(native, road) + in_a_row(native, road) < 2 * IN_A_ROW


def test_the_only_pod_is_never_left_out(native, envoys, orders, backends, manifests):
    del orders
    broken = backends.open_failing("broken")
    manifests.write("orders", "shop", [broken])
    road = envoys["envoy-ads-delta"].road("orders.shop:8080")
    eventually(
        lambda: "is broken" in (native.call(road).error or ""),
        within=20,
        what="the only pod in use",
    )
    for _ in range(30):
        # What it says, not Envoy's "no healthy upstream".
        assert "is broken" in native.call(road).error
