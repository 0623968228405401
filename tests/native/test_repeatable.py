"""A Service that declares methods repeatable: one of three servers fails each request, and nobody notices."""

import json

import grpc
import pytest

import trimtab as library
from harness.client import Road
from harness.echo_process import METHOD, SERVICE
from harness.envoy import Envoy, separate_services
from harness.waiting import eventually

pytestmark = pytest.mark.processes

ROUTE = "orders.shop:8080"
CALLS = 60
LEAST = 3  # of a third, which error bias makes fewer in trimtab's clients


@pytest.fixture
def calls(native, trimtab, control_plane, started, tmp_path):
    """By kind of client: one call, and whether it succeeded."""
    edge = started(
        Envoy(
            "by-route",
            separate_services("by-route", control_plane.address, "delta", [ROUTE]),
            tmp_path,
        )
    )
    edge.wait_ready()
    direct = Road("xds:///orders.shop:grpc")
    printed = json.loads(control_plane.bootstrap("grpc", node_id="threads", namespace="shop"))
    with library.insecure_channel("xds:///orders.shop:grpc", bootstrap=printed) as channel:
        # Made before anything is declared: a stub lives as long as its channel.
        who = channel.unary_unary(f"/{SERVICE}/{METHOD}")

        def blocking():
            try:
                who(b"0", timeout=10, wait_for_ready=True)
            except grpc.RpcError:
                return False
            return True

        yield {
            "native": lambda: native.call(direct).server is not None,
            "envoy": lambda: native.call(edge.routed_road(ROUTE)).server is not None,
            "asyncio": lambda: trimtab.call(direct).server is not None,
            "threads": blocking,
        }


def failed(call):
    return sum(not call() for _ in range(CALLS))


# Ejection would hide what retries do, as any policy would that goes by errors.
PLAIN = {
    "trimtab.dev/outlier-detection": "off",
    "trimtab.dev/policy": "round_robin",
    "trimtab.dev/slow-start": "0",
}


@pytest.mark.parametrize("who", ["native", "envoy", "asyncio", "threads"])
def test_a_method_is_repeated_as_soon_as_the_service_declares_it(
    who, calls, backends, orders, manifests
):
    call = calls[who]
    pods = [*orders.values(), backends.open_failing("c")]
    manifests.write("orders", "shop", pods, annotations=PLAIN)
    eventually(lambda: failed(call) >= LEAST, within=20, what="calls fail")
    declared = {"trimtab.dev/retry-methods": f"{SERVICE}/{METHOD}"}
    manifests.write("orders", "shop", pods, annotations=PLAIN | declared)
    eventually(lambda: failed(call) == 0, within=20, what="no call fails")
    other = {"trimtab.dev/retry-methods": f"{SERVICE}/Another"}
    pods[-1] = backends.open_failing("d")  # whose errors nobody has seen
    manifests.write("orders", "shop", pods, annotations=PLAIN | other)
    eventually(lambda: failed(call) >= LEAST, within=20, what="only what is named")
