"""A Service that declares methods repeatable: one of three servers fails each request, and nobody notices."""

import pytest

from harness.client import Road
from harness.echo_process import METHOD, SERVICE
from harness.envoy import Envoy, separate_services
from harness.waiting import eventually

pytestmark = pytest.mark.processes

ROUTE = "orders.shop:8080"
CALLS = 60


@pytest.fixture
def clients(native, control_plane, started, tmp_path):
    """By name: a client and its road."""
    edge = started(
        Envoy(
            "by-route",
            separate_services("by-route", control_plane.address, "delta", [ROUTE]),
            tmp_path,
        )
    )
    edge.wait_ready()
    direct = Road("xds:///orders.shop:grpc")
    return {"native": (native, direct), "envoy": (native, edge.routed_road(ROUTE))}


def failed(client, road):
    return sum(client.call(road).server is None for _ in range(CALLS))


# Ejection would hide what retries do, and a failing server from their test.
WITHOUT_EJECTION = {"trimtab.dev/outlier-detection": "off"}


@pytest.mark.parametrize("who", ["native", "envoy"])
def test_a_method_is_repeated_as_soon_as_the_service_declares_it(
    who, clients, backends, orders, manifests
):
    client, road = clients[who]
    pods = [*orders.values(), backends.open_failing("c")]
    manifests.write("orders", "shop", pods, annotations=WITHOUT_EJECTION)
    eventually(
        lambda: failed(client, road) > CALLS / 6, within=20, what="a third of the calls fails"
    )
    declared = {"trimtab.dev/retry-methods": f"{SERVICE}/{METHOD}"}
    manifests.write("orders", "shop", pods, annotations={**WITHOUT_EJECTION, **declared})
    eventually(lambda: failed(client, road) == 0, within=20, what="no call fails")
    other = {"trimtab.dev/retry-methods": f"{SERVICE}/Another"}
    manifests.write("orders", "shop", pods, annotations={**WITHOUT_EJECTION, **other})
    eventually(lambda: failed(client, road) > CALLS / 6, within=20, what="only what is named")
