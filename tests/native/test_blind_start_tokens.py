"""The same as ``test_blind_start`` where clients are known by tokens, which only the API server can check."""

import pytest
import yaml

from certificates import Authority
from harness.api_thread import ApiThread
from harness.client import Road
from harness.control_plane import ControlPlane, printed_bootstrap
from harness.python_clients import native_client, trimtab_client
from harness.traffic import Traffic
from harness.with_tokens import SWITCH, envoy_with_token, jwt, route_file

pytestmark = pytest.mark.processes

ORDERS = Road("xds:///orders.shop:grpc")
WEB = "system:serviceaccount:shop:web"


@pytest.fixture
def token(tmp_path):
    """A file with the token of a pod in the namespace shop."""
    file = tmp_path / "token"
    file.write_text(jwt())
    return file


@pytest.fixture
def plane(addresses, orders, manifests, token, started, tmp_path):
    """It has met the token, and was killed; the API server is away since, and it starts again."""
    assert orders
    ca, certificate, key, kubeconfig, state = (
        tmp_path / name for name in ("ca.crt", "tls.crt", "tls.key", "kubeconfig", "state")
    )
    authority = Authority()
    for file, content in zip(
        (ca, certificate, key), (authority.pem, *authority.issue()), strict=True
    ):
        file.write_bytes(content)
    options = [
        *(
            "--kubeconfig",
            f"shop={kubeconfig}",
            "--endpoint-range",
            "127.0.0.0/8",
            "--state",
            state,
            "--state-after",
            "0.2",
        ),
        *("--tls-cert", certificate, "--tls-key", key, "--token-audience", "trimtab"),
    ]
    plane = started(ControlPlane(addresses, None, options=[str(o) for o in options]))
    server = ApiThread().start()
    try:
        server.kubeconfig(kubeconfig)
        server.api.reviewed[token.read_text()] = WEB
        for file in manifests.path.iterdir():
            for document in yaml.safe_load_all(file.read_text()):
                server.api.put(document)
        plane.start()
        first = started(native_client(bootstrap(plane, token, ca), env=SWITCH))
        with first.load({"native": ORDERS}, rate=50) as load:
            load.comes_from("a", "b")
        assert plane.terminate() == 0
    finally:
        server.stop()
    assert token.read_text() not in state.read_text()
    plane.start()
    return plane


def bootstrap(plane, token, ca):
    trust = (("ca", str(ca)), ("token_file", str(token)))
    return printed_bootstrap("grpc", plane.address, (("node_id", token.name), *trust))


def test_clients_whose_token_was_good_are_served_from_the_state_file(
    plane, token, started, tmp_path
):
    ca = tmp_path / "ca.crt"
    printed = bootstrap(plane, token, ca)
    native, trimtab = started(native_client(printed, env=SWITCH)), started(trimtab_client(printed))
    routes, edge = route_file("orders.shop:8080", tmp_path)
    options = ("routes", str(routes))
    envoy = started(envoy_with_token(plane.address, token, ca, tmp_path, options))
    envoy.wait_ready()
    envoy.wait_cluster("orders.shop:8080")
    through = {"native": ORDERS, "envoy": Road(edge)}
    traffic = Traffic([(trimtab, {"trimtab": ORDERS}), (native, through)])
    with traffic.load() as load:
        load.comes_from("a", "b")
        load.goes_on(5)
    assert plane.metric("trimtab_clusters_on_trust") >= 1


def test_a_token_that_nobody_ever_checked_opens_nothing(plane, started, tmp_path):
    new = tmp_path / "new"
    new.write_text(jwt(lasts_s=1800))
    client = started(native_client(bootstrap(plane, new, tmp_path / "ca.crt"), env=SWITCH))
    answer = client.call(ORDERS, within=20)
    assert answer.server is None
    assert "can't be asked about the token" in answer.error
    assert plane.metric("trimtab_streams_refused_total", reason="unavailable") > 0
