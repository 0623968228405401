"""How even a Service's load is, by its servers' own word, where its callers are native gRPC."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from harness.client import Road
from harness.control_plane import ControlPlane
from harness.python_clients import native_client
from harness.waiting import Unmet, eventually

pytestmark = pytest.mark.processes

INTERVAL_S = 0.5
ASKS = {"annotations": {"trimtab.dev/load-reports": "out-of-band"}}
CLUSTER = "orders.shop:8080"


@pytest.fixture
def servers(backends, manifests):
    """``orders.shop``, whose servers offer their reports, and say so."""
    pods = [backends.open_with(name, out_of_band=True) for name in "abc"]
    manifests.write("orders", "shop", pods, **ASKS)
    return pods


@pytest.fixture
def control_plane(addresses, servers, manifests, tmp_path, started):
    config = tmp_path / "config.yaml"
    config.write_text(f"out_of_band: {{streams: 10, interval_seconds: {INTERVAL_S}}}\n")
    plane = started(ControlPlane(addresses, manifests.path, config=config))
    plane.start()
    return plane


def load_of(plane):
    found = json.loads(plane.get("/api/v1/load")[1])["clusters"]
    return next((one for one in found if one["cluster"] == CLUSTER), {"by": "", "servers": []})


def wait_load(plane, what, fits):
    def look():
        one = load_of(plane)
        return (one["by"] == "servers" and fits(one) and one) or Unmet(f"{one}")

    return eventually(look, within=20, what=what)


def test_servers_say_how_unevenly_native_clients_and_strangers_load_them(
    control_plane, servers, manifests, backends, started
):
    printed = control_plane.bootstrap("grpc", node_id="native", namespace="shop")
    native = started(native_client(printed))
    a, b, c = servers
    # Half of the requests go around every control plane: nobody but their server can tell of them.
    roads = {"xds": Road("xds:///orders.shop:grpc"), "direct": Road(f"ipv4:127.0.0.1:{a.port}")}
    with native.load(roads, rate=60) as load:
        load.goes_on(30)
        # 30 + 10, 10 and 10 requests/s: 40 against a mean of 20.
        one = wait_load(
            control_plane,
            "twice the mean",
            lambda one: (
                1.6 < one["max_to_mean"] < 2.4
                and one["requests_per_second"] > 40
                and None not in {s["requests_per_second"] for s in one["servers"]}
            ),
        )
        rates = {s["endpoint"]: s["requests_per_second"] for s in one["servers"]}
        assert max(rates, key=rates.get) == f"127.0.0.1:{a.port}"
        assert one["rows"] == []  # no client said anything
        busiest = control_plane.metric(
            "trimtab_load_server_requests_per_second", endpoint=f"127.0.0.1:{a.port}"
        )
        assert busiest > 20
        assert control_plane.metric("trimtab_load_max_to_mean", cluster=CLUSTER) > 1.5
        table = subprocess.run(
            [sys.executable, "-m", "trimtab", "top", "--server", f"http://{control_plane.admin}"],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        ).stdout
        assert "orders.shop:8080" in table
        assert "servers" in table
    with native.load({"xds": roads["xds"]}, rate=60) as load:
        load.goes_on(30)
        wait_load(control_plane, "evenness", lambda one: one["max_to_mean"] < 1.4)
    # One that is gone and still listed says nothing, and the others go on.
    backends.close("c")
    wait_load(
        control_plane,
        "no word of the dead one",
        lambda one: (
            {s["endpoint"]: s["state"] for s in one["servers"]}
            == {
                f"127.0.0.1:{a.port}": "reading",
                f"127.0.0.1:{b.port}": "reading",
                f"127.0.0.1:{c.port}": "unavailable",
            }
        ),
    )
    # Whoever is going gets no requests, and keeps no stream: a drain would wait for it.
    manifests.write("orders", "shop", [a, replace(b, ready=False, terminating=True)], **ASKS)
    wait_load(control_plane, "one stream", lambda one: len(one["servers"]) == 1)
    eventually(
        lambda: control_plane.metric("trimtab_load_server_streams") == 1 or Unmet("more"),
        within=20,
        what="no stream to the draining one",
    )
    manifests.write("orders", "shop", [a, b])
    eventually(
        lambda: load_of(control_plane)["servers"] == [] or Unmet(f"{load_of(control_plane)}"),
        within=20,
        what="no streams where nobody asks",
    )
