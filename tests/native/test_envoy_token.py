"""An edge Envoy that the control plane knows by a token, which is replaced while it runs."""

import hashlib
import json

import pytest
import yaml

from certificates import Authority
from harness.client import Road
from harness.control_plane import ControlPlane
from harness.python_clients import native_client
from harness.waiting import Unmet, eventually
from harness.with_tokens import envoy_with_token, route_file

pytestmark = pytest.mark.processes


class Token:
    """A token in a directory, replaced as kubelet does: by moving something new into it."""

    def __init__(self, directory, text):
        directory.mkdir()
        self.path = directory / "token"
        self.path.write_text(text)

    def replace(self, text):
        fresh = self.path.with_name("fresh")
        fresh.write_text(text)
        fresh.replace(self.path)


@pytest.fixture
def plane(addresses, orders, manifests, started, tmp_path):
    """Knows the tokens ``first`` and ``second`` of the namespace shop."""
    assert orders
    authority = Authority()
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    certificate, key, tokens = (tmp_path / name for name in ("tls.crt", "tls.key", "tokens.yaml"))
    for file, content in zip((certificate, key), authority.issue(), strict=True):
        file.write_bytes(content)
    known = [
        {"name": t, "namespace": "shop", "sha256": hashlib.sha256(t.encode()).hexdigest()}
        for t in ("first", "second")
    ]
    tokens.write_text(yaml.safe_dump(known))
    files = ["--tls-cert", str(certificate), "--tls-key", str(key), "--tokens", str(tokens)]
    running = started(ControlPlane(addresses, manifests.path, options=files))
    running.start()
    return running


@pytest.fixture
def edge(plane, started, tmp_path):
    """Start an Envoy that sends this token; the way through it."""

    def start(token, *more):
        ca = tmp_path / "ca.crt"
        return started(envoy_with_token(plane.address, token.path, ca, tmp_path, *more))

    return start


@pytest.fixture
def native_alone(started):
    """A client that calls the edge and knows no control plane."""
    return started(native_client(""))


def subject(plane):
    """Who the edge is known as, "" if it has no stream."""
    return next((client["identity"] for client in plane.clients()), "")


def wait_subject(plane, wanted, within):
    def look():
        seen = subject(plane)
        return seen == wanted or Unmet(f"{seen!r}")

    eventually(look, within=within, what=f"the edge is known as {wanted}")


def test_an_edge_is_known_by_its_token_and_by_the_one_that_replaces_it(
    plane, edge, native_alone, tmp_path
):
    routes, address = route_file("orders.shop:8080", tmp_path)
    token = Token(tmp_path / "mounted", "first")
    edge(token, ("routes", str(routes))).wait_ready()
    with native_alone.load({"edge": Road(address)}, rate=50) as load:
        load.comes_from("a", "b")
        assert subject(plane) == "static:first"
        token.replace("second")
        plane.terminate()
        plane.start()
        wait_subject(plane, "static:second", within=20)
        load.comes_from("a", "b")


def test_an_envoy_with_a_stale_token_is_served_once_it_is_replaced(plane, edge, tmp_path):
    token = Token(tmp_path / "mounted", "stale")
    envoy = edge(token)

    def refused():
        return plane.metric("trimtab_streams_refused_total", reason="refused") or Unmet("0")

    eventually(refused, within=20, what="the stale token is refused")
    token.replace("first")
    wait_subject(plane, "static:first", within=30)
    envoy.wait_ready()
    known = json.loads(envoy.get("/clusters?format=json"))["cluster_statuses"]
    assert "orders.shop:8080" in {c["name"] for c in known}
