"""A pod that comes new gets its share bit by bit from Envoy, as its Service says."""

import pytest

from harness.traffic import RATE, Traffic
from harness.waiting import Unmet, eventually

pytestmark = pytest.mark.processes

WINDOW_S = 20
# Envoy gives a new pod a tenth of another's share, and from 2 s on as much as the window has passed: 7 % of all in 5 s.
EARLY_S = 5


@pytest.mark.parametrize("policy", ["round_robin", "p2c"])
def test_a_new_pod_begins_with_little_and_comes_to_its_share(
    policy, native, envoys, orders, backends, manifests
):
    asked = {"policy": policy, "slow-start": f"{WINDOW_S}s", "zone": "off"}
    annotations = {f"trimtab.dev/{key}": value for key, value in asked.items()}
    manifests.write("orders", "shop", orders.values(), annotations=annotations)
    ways = ("envoy-ads-sotw", "envoy-ads-delta")
    roads = {name: envoys[name].road("orders.shop:8080") for name in ways}
    with Traffic([(native, roads)]).load() as load:
        load.comes_from("a", "b")
        # They were new to Envoy themselves.
        load.goes_on(RATE * (WINDOW_S + 2), within=3 * WINDOW_S)
        (c,) = backends.open("c")
        before = load.served()
        manifests.write("orders", "shop", [*orders.values(), c], annotations=annotations)
        load.comes_from("a", "b", "c")

        def part(since):
            new = {road: served - since[road] for road, served in load.served().items()}
            return {road: one["c"] / one.total() for road, one in new.items()}

        load.goes_on(RATE * EARLY_S)
        early = part(before)
        assert max(early.values()) < 1 / 6, f"more than half its share: {early}"

        def grown():
            since = load.served()
            load.goes_on(RATE * EARLY_S)
            late = part(since)
            return min(late.values()) > 1 / 4 or Unmet(f"{late}")

        eventually(grown, within=3 * WINDOW_S, what="its share")
