"""A Service's limit of requests in flight is kept by Envoy and by native gRPC: what is beyond it fails at once."""

import pytest

from harness.client import Road
from harness.waiting import Unmet, eventually

pytestmark = pytest.mark.processes

WORK_MS = 4_000
LIMIT = 2


@pytest.mark.parametrize("way", ["envoy-ads-sotw", "envoy-ads-delta", "native"])
def test_what_is_beyond_the_limit_fails_at_once_and_room_is_used_again(
    way, native, envoys, orders, manifests
):
    manifests.write(
        "orders", "shop", orders.values(), annotations={"trimtab.dev/max-requests": str(LIMIT)}
    )
    road = Road("xds:///orders.shop:grpc")
    if way in envoys:
        road = envoys[way].road("orders.shop:8080")

    def limited():
        """The limit is there once one call of three is refused while two are under way."""
        calls = [native.begin_call(road, work_ms=WORK_MS) for _ in range(LIMIT + 1)]
        answers = [native.end_call(call) for call in calls]
        refused = [answer for answer in answers if answer.server is None]
        return (len(refused) == 1 and refused) or Unmet(f"{answers}")

    (refused,) = eventually(limited, within=60, what="one of three refused")
    assert "overflow" in refused.error or "circuit breaker drop" in refused.error
    assert refused.seconds < WORK_MS / 2e3
    assert native.call(road).server in orders
