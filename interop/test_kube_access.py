"""Rights that are missing or taken away, and tokens that are replaced, on a real API server."""

from itertools import count

import pytest
import yaml

from harness.control_plane import ControlPlane
from harness.kube.account import SERVICES, SLICES, Account
from harness.kube.fixtures import traffic_of
from harness.waiting import eventually

pytestmark = pytest.mark.processes

RETURN_WITHIN_S = 40
_numbers = count(1)


@pytest.fixture
def cluster(bare_cluster):
    """These tests kill the API server; the slices are written by hand."""
    return bare_cluster


@pytest.fixture
def account(cluster, space, tmp_path):
    """An account of the test's own; ``create`` it with its rights."""
    return Account(cluster.api, f"reader-{next(_numbers)}", space.name, tmp_path)


@pytest.fixture
def plane(addresses, account, started):
    """A control plane that uses it; not started."""
    return started(ControlPlane(addresses, None, options=["--kubeconfig", account.kubeconfig]))


def test_a_missing_right_is_named_with_the_rule_to_add_and_found_once_it_is_there(
    account, plane, orders_pods, space, started
):
    account.create(SERVICES)
    plane.start_silent()
    match = plane.expect_line(r"can't read endpointslices: (.*)(\{apiGroups: .*?\})", within=15)
    named, rule = match.groups()
    for word in ("list", "endpointslices", "discovery.k8s.io", f"{space.name}:reader"):
        assert word in named, match[0]
    assert plane.get("/readyz")[0] == 503
    account.allow(SERVICES, yaml.safe_load(rule))
    plane.wait_ready(within=RETURN_WITHIN_S)
    with traffic_of(plane, space, started).load() as load:
        load.comes_from(*orders_pods)


def test_rights_that_are_taken_away_cost_no_request_and_are_used_again_once_they_are_back(
    account, plane, orders_pods, cluster, space, started
):
    account.create(SERVICES, SLICES)
    plane.start()
    with traffic_of(plane, space, started).load() as load:
        load.comes_from(*orders_pods)
        account.allow(SERVICES)
        cluster.api.kill()  # a watch that is open is not judged again
        cluster.api.start()
        plane.expect_line(r"can't read endpointslices.*discovery\.k8s\.io", within=RETURN_WITHIN_S)
        load.goes_on(50)
        account.allow(SERVICES, SLICES)
        space.open("c")
        load.comes_from("a", "b", "c", within=RETURN_WITHIN_S)


def test_a_replaced_token_is_used_at_once_and_a_void_one_costs_no_request(
    account, plane, orders_pods, cluster, space, started
):
    account.create(SERVICES, SLICES)
    first, second = account.secret("first"), account.secret("second")
    account.write_token(bound_to=first)
    plane.start()
    with traffic_of(plane, space, started).load() as load:
        load.comes_from(*orders_pods)
        account.write_token(bound_to=second)
        cluster.api.admin.delete(first)
        cluster.api.kill()  # its memory of good tokens too
        cluster.api.start()
        space.open("c")
        load.comes_from("a", "b", "c", within=RETURN_WITHIN_S)
        assert plane.metric("trimtab_kube_failures_total", reason="unauthorized") == 0

        cluster.api.admin.delete(second)
        cluster.api.kill()
        cluster.api.start()
        eventually(
            lambda: plane.metric("trimtab_kube_failures_total", reason="unauthorized") > 0,
            within=RETURN_WITHIN_S,
            what="the void token is refused",
        )
        load.goes_on(50)
        account.write_token()
        space.remove(orders_pods["a"])
        load.comes_from("b", "c", within=RETURN_WITHIN_S)
