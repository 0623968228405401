"""Many other Services come and go while requests flow: no client loses one."""

import pytest

from harness.waiting import Unmet, eventually

pytestmark = pytest.mark.processes

OTHERS = 100


def test_a_hundred_services_that_come_and_go_cost_no_request(
    traffic, envoys, orders, manifests, control_plane
):
    names = [f"other{n}" for n in range(OTHERS)]
    before = control_plane.metric("trimtab_clusters")

    def known(others):
        wanted = {f"{name}.shop:8080" for name in others}
        for envoy in ("envoy-ads-sotw", "envoy-ads-delta"):
            has = {n for n in envoys[envoy].active_clusters() if n.startswith("other")}
            if has != wanted:
                return Unmet(f"{envoy} has {len(has)} of them")
        clusters = control_plane.metric("trimtab_clusters")
        return clusters == before + len(others) or Unmet(f"{clusters} clusters")

    with traffic.load() as load:
        load.comes_from("a", "b")
        for _ in range(2):
            for name in names:
                manifests.write(name, "shop", orders.values())
            eventually(lambda: known(names), within=40, what="all have come")
            load.comes_from("a", "b")
            for name in names:
                (manifests.path / f"shop-{name}.yaml").unlink()
            eventually(lambda: known([]), within=40, what="all have gone")
            load.comes_from("a", "b")
