"""A control plane that gets a tenth of a processor is late, and right."""

import contextlib
import threading

import pytest

from harness.waiting import pause

pytestmark = pytest.mark.processes

# As a limit of 100m does it: the kernel lets it run for a tenth of each period of 100 ms.
RUNS_S, STANDS_S = 0.010, 0.090
PROBED = ("/healthz", "/readyz")
LATE_WITHIN_S = 60


@contextlib.contextmanager
def throttled(control_plane):
    """It stands still for nine tenths of the time, by SIGSTOP and SIGCONT."""
    over = threading.Event()

    def throttle():
        while not over.is_set():
            control_plane.freeze()
            pause(STANDS_S)
            control_plane.thaw()
            pause(RUNS_S)

    thread = threading.Thread(target=throttle, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def subscriptions(control_plane):
    """Streams that were ever opened for endpoints; those of load reports begin when they like."""
    return sum(control_plane.metric("trimtab_streams_total", service=s) for s in ("ads", "eds"))


def test_with_a_tenth_of_a_processor_no_request_and_no_stream_is_lost_and_every_change_arrives(
    traffic, orders, control_plane, backends, manifests
):
    (c,) = backends.open("c")
    with traffic.load() as load:
        load.comes_from("a", "b")
        control_plane.wait_clients(*traffic.nodes)
        control_plane.wait_acked()
        opened = subscriptions(control_plane)
        with throttled(control_plane):
            manifests.write("orders", "shop", [*orders.values(), c])
            load.comes_from("a", "b", "c", within=LATE_WITHIN_S)
            manifests.write("orders", "shop", [c])
            load.comes_from("c", within=LATE_WITHIN_S)
            # As long as a probe waits.
            assert [control_plane.get(page, within=5)[0] for page in PROBED] == [200, 200]
        control_plane.wait_acked()
        assert subscriptions(control_plane) == opened
