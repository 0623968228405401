"""Which objects are read: namespaces, labels, several clusters; on real API servers."""

import pytest

from harness.control_plane import ControlPlane
from harness.kube import manifests
from harness.kube.account import SERVICES, SLICES, Account
from harness.kube.api_server import ApiServer
from harness.kube.credentials import Credentials
from harness.kube.fixtures import traffic_of
from harness.kube.space import Space
from harness.waiting import Unmet, eventually

pytestmark = pytest.mark.processes

RETURN_WITHIN_S = 40


def wait_ends(plane, cluster_name, ready, within=20):
    def look():
        known = plane.endpoints(cluster_name)
        return (known and known["counts"].get("ready") == ready and known) or Unmet(f"{known}")

    return eventually(look, within=within, what=f"{ready} ready endpoints of {cluster_name}")


def test_only_the_namespaces_asked_for_are_read_and_a_role_there_is_enough(
    cluster, space, addresses, backends, started, tmp_path
):
    other = Space(f"{space.name}-other", cluster.api.admin, backends)
    for inside in (space, other):
        inside.service()
    space.open("a")
    other.open("b")
    account = Account(cluster.api, "reader", space.name, tmp_path)
    account.create_in_namespace(SERVICES, SLICES)
    options = ["--kubeconfig", account.kubeconfig, "--namespace", space.name]
    plane = started(ControlPlane(addresses, None, options=options))
    plane.start()
    wait_ends(plane, space.cluster(), 1)
    assert plane.endpoints(other.cluster()) is None
    assert plane.metric("trimtab_kube_failures_total") == 0
    other.clear()


def test_only_services_with_the_labels_asked_for_are_served(cluster, space, addresses, started):
    space.service("orders", labels={"team": "shop"})
    space.service("internal", labels={"team": "ops"})
    space.open("a")
    space.open("b", of="internal")
    options = ["--kubeconfig", cluster.kubeconfig, "--selector", "team=shop"]
    plane = started(ControlPlane(addresses, None, options=options))
    plane.start()
    wait_ends(plane, space.cluster(), 1)
    assert plane.endpoints(space.cluster("internal")) is None
    other = cluster.api.admin.get("Service", "internal", space.name)
    cluster.api.admin.merge(
        {**other, "kind": "Service"}, {"metadata": {"labels": {"team": "shop"}}}
    )
    wait_ends(plane, space.cluster("internal"), 1)


@pytest.fixture
def second(cluster, started, tmp_path):
    """An API server of another cluster: its own objects, authority and accounts."""
    credentials = Credentials(tmp_path / "credentials")
    api = started(ApiServer("10.77.0.2", cluster.etcd, credentials, prefix=f"/{tmp_path.name}"))
    api.start()
    manifests.install_access(api.admin)
    return api


def test_a_cluster_that_is_lost_for_good_stays_as_it_was_and_the_other_goes_on(
    cluster, second, space, addresses, backends, started, tmp_path
):
    account = Account(second, manifests.ACCOUNT, manifests.NAMESPACE, tmp_path, context="second")
    account.write_token()
    away = Space(space.name, second.admin, backends, controlled=False)
    space.service()
    away.service()
    (a,) = space.open("a")
    away.open("b")
    options = ["--kubeconfig", cluster.kubeconfig, "--kubeconfig", account.kubeconfig]
    plane = started(ControlPlane(addresses, None, options=options))
    plane.start()
    known = wait_ends(plane, space.cluster(), 2)
    assert {e["region"] for e in known["endpoints"]} == {"tests", "second"}
    with traffic_of(plane, space, started).load() as load:
        load.comes_from("a", "b")
        second.kill()
        load.goes_on(50)
        space.open("c")
        load.comes_from("a", "b", "c")
        space.remove(a)
        load.comes_from("b", "c")
        assert plane.get("/readyz")[0] == 200


def test_a_cluster_that_is_away_at_the_start_does_not_hold_up_the_others_and_joins_later(
    cluster, second, space, addresses, backends, started, tmp_path
):
    account = Account(second, manifests.ACCOUNT, manifests.NAMESPACE, tmp_path, context="second")
    account.write_token()
    away = Space(space.name, second.admin, backends, controlled=False)
    away.service()
    away.open("b")
    second.kill()
    space.service()
    space.open("a")
    options = ["--kubeconfig", cluster.kubeconfig, "--kubeconfig", account.kubeconfig]
    options += ["--source-timeout", "1"]
    plane = started(ControlPlane(addresses, None, options=options))
    plane.start()
    with traffic_of(plane, space, started).load() as load:
        load.comes_from("a")
        second.start()
        load.comes_from("a", "b", within=RETURN_WITHIN_S)
