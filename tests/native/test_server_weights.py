"""Weighted round robin by what servers report: Envoy and native gRPC follow, each by its own policy."""

import pytest

from harness.client import Road
from harness.traffic import Traffic
from harness.waiting import Unmet, eventually

pytestmark = pytest.mark.processes

TIMES = 3  # said to be four times as full, which tells more as it gets less
WINDOW = 60  # requests over each road; of even shares such a difference is 7 standard deviations


@pytest.mark.parametrize("transport", ["sotw", "delta"])
def test_a_pod_that_says_it_is_full_gets_less_than_one_that_is_not(
    transport, native, envoys, orders, backends, manifests
):
    assert orders
    idle = backends.open_with("idle", utilization=0.2)
    full = backends.open_with("full", utilization=0.8)
    manifests.write(
        "orders", "shop", [idle, full], annotations={"trimtab.dev/policy": "weighted_round_robin"}
    )
    roads = {
        "native": Road("xds:///orders.shop:grpc"),
        "envoy": envoys[f"envoy-ads-{transport}"].road("orders.shop:8080"),
    }
    with Traffic([(native, roads)]).load() as load:
        load.comes_from("idle", "full")

        def weighted():
            before = load.served()
            load.goes_on(WINDOW)
            seen = {road: served - before[road] for road, served in load.served().items()}
            good = all(one["idle"] >= TIMES * one["full"] for one in seen.values())
            return good or Unmet(f"{seen}")

        # Neither goes by reports in its first ten seconds.
        eventually(weighted, within=60, what="the idle pod preferred")
