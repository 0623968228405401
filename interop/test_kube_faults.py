"""The API server goes, comes back, freezes and forgets: no request is lost, nothing is missed."""

import pytest

from harness.kube.api_server import PORT
from harness.lost_packets import lost
from harness.traffic import ABSENCE_S
from harness.waiting import Unmet, eventually

pytestmark = pytest.mark.processes

RETURN_WITHIN_S = 40  # the reflector's back-off: 8 s after as long an absence, drawn anew
NOTICED_WITHIN_S = 60  # TCP probes take 35 s; without them it would be 150 s at least


def wait_failing(control_plane):
    """Wait until the control plane has noticed that the API server is away."""
    eventually(
        lambda: control_plane.metric("trimtab_kube_failures_total") > 0,
        within=15,
        what="a failure is counted",
    )


@pytest.fixture
def cluster(bare_cluster):
    """These tests kill the API server; the slices are written by hand."""
    return bare_cluster


@pytest.mark.timeout(120 + 3 * ABSENCE_S)
@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_a_restart_of_the_api_server_costs_no_request_and_changes_follow(
    every_road, kube_control_plane, orders_pods, cluster, space, end
):
    with every_road.load() as load:
        load.comes_from(*orders_pods)
        getattr(cluster.api, end)()
        wait_failing(kube_control_plane)
        load.goes_without(50)
        assert kube_control_plane.get("/readyz")[0] == 200
        cluster.api.start()
        space.open("c")
        load.comes_from("a", "b", "c", within=RETURN_WITHIN_S)
        space.remove(orders_pods["a"])
        load.comes_from("b", "c", within=RETURN_WITHIN_S)


def test_a_frozen_api_server_costs_no_request_and_changes_follow(
    every_road, orders_pods, cluster, space
):
    with every_road.load() as load:
        load.comes_from(*orders_pods)
        cluster.api.freeze()
        try:
            load.goes_on(100)
        finally:
            cluster.api.thaw()
        space.open("c")
        load.comes_from("a", "b", "c")


@pytest.mark.timeout(240)
def test_an_api_server_whose_packets_are_lost_is_noticed_costs_no_request_and_changes_follow(
    every_road, kube_control_plane, orders_pods, cluster, space
):
    """The node died: nobody says goodbye, and all waits are those that users get."""

    def failing():
        return kube_control_plane.metric("trimtab_source_failing") == 1 or Unmet("no failure")

    with every_road.load() as load:
        load.comes_from(*orders_pods)
        with lost("both ways", PORT, host=cluster.api.host):
            eventually(failing, within=NOTICED_WITHIN_S, what="the silence is noticed")
            assert kube_control_plane.metric("trimtab_kube_failures_total", reason="silent") == 0
            assert kube_control_plane.get("/readyz")[0] == 200
            load.goes_on(20)
        cluster.api.wait_ready()
        space.open("c")
        load.comes_from("a", "b", "c", within=RETURN_WITHIN_S)
        space.remove(orders_pods["a"])
        load.comes_from("b", "c", within=RETURN_WITHIN_S)
        assert space.close(orders_pods["a"]) == 0


def test_what_was_deleted_and_compacted_away_meanwhile_is_noticed(
    every_road, kube_control_plane, cluster, space, started
):
    """Another replica of the API server takes the changes; then no watch can begin where it was."""
    doomed = space.service("doomed")
    eventually(
        lambda: kube_control_plane.endpoints(space.cluster("doomed")),
        within=15,
        what="the Service is known",
    )
    with every_road.load() as load:
        load.comes_from("a", "b")
        lists = kube_control_plane.metric("trimtab_kube_lists_total")
        cluster.api.kill()
        wait_failing(kube_control_plane)
        replica = started(cluster.api.replica("10.77.0.3"))
        replica.start()
        stale = {"kind": "EndpointSlice", "metadata": {"name": "a", "namespace": space.name}}
        replica.admin.delete(stale)
        replica.admin.delete(doomed)
        cluster.etcd.compact()
        replica.stop()
        load.comes_from("a", "b")  # nobody could say so yet
        cluster.api.start()
        load.comes_from("b", within=RETURN_WITHIN_S)
        eventually(
            lambda: kube_control_plane.endpoints(space.cluster("doomed")) is None,
            within=RETURN_WITHIN_S,
            what="the deleted Service is gone",
        )
        assert kube_control_plane.metric("trimtab_kube_lists_total") > lists


def test_a_control_plane_that_starts_without_the_api_server_waits_and_says_so(
    every_road, kube_control_plane, orders_pods, cluster
):
    with every_road.load() as load:
        load.comes_from(*orders_pods)
        kube_control_plane.kill()
        cluster.api.kill()
        kube_control_plane.start_silent()
        kube_control_plane.expect_line(r"can't read .*services.*nothing is known yet", within=15)
        assert kube_control_plane.get("/readyz")[0] == 503
        load.goes_on(50)  # a control plane that knows nothing says nothing
        cluster.api.start()
        kube_control_plane.wait_ready(within=RETURN_WITHIN_S)

        def look():
            status, text = kube_control_plane.get("/readyz")
            return status == 200 or Unmet(text)

        eventually(look, within=20, what="it is ready")
        load.comes_from("a", "b", within=RETURN_WITHIN_S)


def test_a_relist_in_the_middle_of_a_rollout_costs_no_request(
    orders_pods, every_road, kube_control_plane, cluster, space, started
):
    """What happens of the rollout while no watch is open is compacted away: only a list tells it."""
    with every_road.load() as load:
        load.comes_from("a", "b")
        space.open("c")
        load.comes_from("a", "b", "c")
        lists = kube_control_plane.metric("trimtab_kube_lists_total")
        cluster.api.kill()
        wait_failing(kube_control_plane)
        replica = started(cluster.api.replica("10.77.0.3"))
        replica.start()
        old = {"kind": "EndpointSlice", "metadata": {"name": "a", "namespace": space.name}}
        replica.admin.delete(old)
        cluster.etcd.compact()
        replica.stop()
        load.goes_on(20)
        cluster.api.start()
        load.comes_from("b", "c", within=RETURN_WITHIN_S)
        assert kube_control_plane.metric("trimtab_kube_lists_total") > lists
        assert space.close(orders_pods["a"]) == 0
        space.open("d")
        space.remove(orders_pods["b"])
        load.comes_from("c", "d", within=RETURN_WITHIN_S)
        assert space.close(orders_pods["b"]) == 0
        load.goes_on(20)


def test_a_list_that_takes_seconds_costs_no_request(
    orders_pods, every_road, kube_control_plane, cluster, space
):
    """A restarted control plane says nothing until it has read everything, however long that takes."""
    with every_road.load() as load:
        load.comes_from(*orders_pods)
        kube_control_plane.kill()
        cluster.api.freeze()
        try:
            kube_control_plane.start_silent()
            kube_control_plane.wait_clients(*every_road.nodes, within=RETURN_WITHIN_S)
            load.goes_on(50)
            assert kube_control_plane.get("/readyz")[0] == 503
        finally:
            cluster.api.thaw()
        kube_control_plane.wait_ready(within=RETURN_WITHIN_S)
        space.open("c")
        load.comes_from("a", "b", "c", within=RETURN_WITHIN_S)
        space.remove(orders_pods["a"])
        load.comes_from("b", "c", within=RETURN_WITHIN_S)
