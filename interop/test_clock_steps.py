"""The wall clock of control plane and clients is set while they run: nobody notices.

Only tokens, certificates and the age of the state file know the wall clock (docs/operations.md).
"""

import time

import pytest

from harness.client import Road
from harness.control_plane import ControlPlane
from harness.python_clients import native_client, trimtab_client
from harness.traffic import Traffic
from harness.waiting import Unmet, eventually
from harness.wall_clock import WallClock

pytestmark = pytest.mark.processes

ORDERS = Road("xds:///orders.shop:grpc")
HOUR_S = 3600
TO_1970 = None
REQUESTS = 60
# Two servers that are alike: the odds that fair choice gives one of them less are below 1e-8.
LEAST_SHARE = 0.15


@pytest.fixture
def clock(tmp_path):
    return WallClock(tmp_path / "clock")


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def control_plane(addresses, orders, manifests, started, state, clock):
    assert orders
    options = ["--state", str(state)]
    plane = started(ControlPlane(addresses, manifests.path, options=options, env=clock.env))
    plane.start()
    return plane


@pytest.fixture
def traffic(control_plane, clock, started):
    printed = control_plane.bootstrap("grpc", node_id="c", namespace="shop")
    native = started(native_client(printed, env=clock.env))
    trimtab = started(trimtab_client(printed, env=clock.env))
    return Traffic([(trimtab, {"trimtab": ORDERS}), (native, {"native": ORDERS})])


@pytest.mark.parametrize(
    "ahead_s", [HOUR_S, -HOUR_S, TO_1970], ids=["an hour on", "an hour back", "to 1970"]
)
def test_no_request_fails_nobody_is_ejected_and_no_stream_ends(
    ahead_s, clock, control_plane, traffic, state, manifests, orders, backends
):
    real = time.time()  # noqa: TID251 - it is the wall clock that is set
    if ahead_s is TO_1970:
        ahead_s = -round(real - 86_400)
    with traffic.load() as load:
        load.comes_from("a", "b", within=30)
        control_plane.wait_acked()
        streams = control_plane.metric("trimtab_streams_total")
        clock.set(ahead_s)
        shares_stay_fair(load)
        (c,) = backends.open("c")
        manifests.write("orders", "shop", [orders["b"], c])
        load.comes_from("b", "c")
        eventually(lambda: stamped(state, real + ahead_s), within=20, what="a state file of then")
        shares_stay_fair(load)
        assert control_plane.metric("trimtab_streams_total") == streams
        assert control_plane.metric("trimtab_stream_ends_total") == 0
        clock.set(0)
        shares_stay_fair(load)
        # It starts again while its file is of another time: what is known is read anew anyway.
        control_plane.kill()
        control_plane.start()
        load.comes_from("b", "c")


def stamped(state, expected):
    """Whether the file says that it was written about then: the process sees the clock."""
    if not state.exists():
        return Unmet("no file")
    written = float(state.read_bytes().split(b"\n", 1)[0].split()[2])
    return abs(written - expected) < 600 or Unmet(f"stamped {written - expected:+.0f} s from that")


def shares_stay_fair(load):
    """The next requests of each road go to both servers, none of them being avoided."""
    before = load.served()
    load.goes_on(REQUESTS)
    for road, served in load.served().items():
        new = served - before[road]
        assert len(new) == 2, (road, new)
        assert min(new.values()) >= LEAST_SHARE * new.total(), (road, new)
