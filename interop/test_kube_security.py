"""ServiceAccount tokens, issued and reviewed by a real API server with RBAC on."""

from itertools import count

import pytest

from certificates import Authority
from harness.control_plane import ControlPlane
from harness.kube import objects
from harness.kube.account import REVIEWS, SERVICES, SLICES, Account
from harness.waiting import Unmet, eventually
from trimtab.client.bootstrap import load
from trimtab.client.subscription import subscribe

pytestmark = pytest.mark.processes

_numbers = count(1)


@pytest.fixture
def account(cluster, space, tmp_path):
    """trimtab's own account; ``create`` it with its rights."""
    return Account(cluster.api, f"reviewer-{next(_numbers)}", space.name, tmp_path)


@pytest.fixture
def plane(addresses, account, started, tmp_path):
    """A control plane that reviews tokens; not started."""
    authority = Authority()
    chain, key = authority.issue()
    for name, content in (("ca", authority.pem), ("cert", chain), ("key", key)):
        (tmp_path / f"{name}.pem").write_bytes(content)
    options = ["--kubeconfig", account.kubeconfig, "--token-audience", "trimtab"]
    options += ["--tls-cert", tmp_path / "cert.pem", "--tls-key", tmp_path / "key.pem"]
    return started(ControlPlane(addresses, None, options=[str(o) for o in options]))


class Client:
    """trimtab's own client, with a token."""

    def __init__(self, plane, directory, token, cluster):
        path = directory / f"token-{next(_numbers)}"
        path.write_text(token)
        tls = {"type": "tls", "config": {"ca_certificate_file": str(directory / "ca.pem")}}
        creds = {"type": "jwt_token_file", "config": {"jwt_token_file": str(path)}}
        server = {"server_uri": plane.address, "channel_creds": [tls], "call_creds": [creds]}
        self.clusters = []
        self.reasons = []
        bootstrap = load({"xds_servers": [server], "node": {"id": path.name}})
        self._watch = subscribe(cluster, self, bootstrap)

    def updated(self, snapshot):
        self.clusters.append(snapshot.cluster)

    def failed(self, reason):
        self.reasons.append(str(reason))

    def stop(self):
        self._watch.close()


def tokens_of(cluster, namespace):
    """A new account's tokens: for trimtab, and for the API server."""
    name = f"client-{next(_numbers)}"
    cluster.api.admin.create(objects.service_account(name, namespace))
    return [cluster.api.admin.token(name, namespace, audience=a) for a in ("trimtab", None)]


@pytest.mark.usefixtures("orders_pods")
def test_a_token_for_trimtab_shows_its_own_namespace_and_no_other_token_shows_anything(
    account, plane, cluster, space, started, tmp_path
):
    account.create(SERVICES, SLICES, REVIEWS)
    plane.start()
    mine, not_for_trimtab = tokens_of(cluster, space.name)
    foreign, _ = tokens_of(cluster, "default")
    good, wrong, stranger = (
        started(Client(plane, tmp_path, token, space.cluster()))
        for token in (mine, not_for_trimtab, foreign)
    )
    eventually(lambda: good.clusters or Unmet(good.reasons), within=15, what="the endpoints")
    eventually(
        lambda: plane.metric("trimtab_streams_refused_total") or Unmet(wrong.reasons),
        within=15,
        what="a refused token",
    )
    eventually(
        lambda: (
            any("no Service port is known" in r for r in stranger.reasons)
            or Unmet(stranger.reasons)
        ),
        within=15,
        what="an absent service",
    )
    assert not wrong.clusters
    assert not stranger.clusters


@pytest.mark.usefixtures("orders_pods")
def test_without_the_right_to_review_nobody_gets_in_and_with_it_everybody_known_does(
    account, plane, cluster, space, started, tmp_path
):
    account.create(SERVICES, SLICES)
    plane.start()
    token, _ = tokens_of(cluster, space.name)
    client = started(Client(plane, tmp_path, token, space.cluster()))
    plane.expect_line(r"a token could not be checked: .*403.*create on tokenreviews", within=15)
    assert not client.clusters
    status, text = plane.get("/readyz")
    assert status == 503
    assert "tokenreviews.authentication.k8s.io" in text
    account.allow(SERVICES, SLICES, REVIEWS)
    eventually(lambda: plane.get("/readyz")[0] == 200, within=20, what="it is ready")
    eventually(lambda: client.clusters or Unmet(client.reasons), within=40, what="the endpoints")
