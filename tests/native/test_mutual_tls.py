"""Clients that are known by their certificates, each with the bootstrap that is printed for it."""

import subprocess

import pytest
import yaml

from certificates import Authority
from harness.client import Road
from harness.control_plane import ControlPlane, printed_bootstrap
from harness.envoy import Envoy, envoy_binary
from harness.ports import free_port
from harness.python_clients import native_client, trimtab_client
from harness.traffic import Traffic

pytestmark = pytest.mark.processes

SHOP = "spiffe://example.org/ns/shop/sa/web"
BANK = "spiffe://example.org/ns/bank/sa/till"


@pytest.fixture
def authority():
    return Authority()


@pytest.fixture
def trusting(authority, tmp_path):
    """Files of a client with that SPIFFE id, as options of ``trimtab bootstrap``."""
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.pem)

    def made(spiffe, name):
        files = {"certificate": tmp_path / f"{name}.pem", "key": tmp_path / f"{name}.key"}
        for file, content in zip(files.values(), authority.issue(spiffe=spiffe), strict=True):
            file.write_bytes(content)
        return (("ca", str(ca)), *((option, str(file)) for option, file in files.items()))

    return made


@pytest.fixture
def plane(addresses, authority, orders, manifests, started, tmp_path):
    """A control plane that asks for certificates."""
    assert orders
    files = [tmp_path / name for name in ("tls.crt", "tls.key", "clients.crt")]
    for file, content in zip(files, (*authority.issue(), authority.pem), strict=True):
        file.write_bytes(content)
    flags = ("--tls-cert", "--tls-key", "--tls-client-ca")
    options = [str(part) for pair in zip(flags, files, strict=True) for part in pair]
    running = started(ControlPlane(addresses, manifests.path, options=options))
    running.start()
    return running


def printed(plane, kind, node, trust, *more, host="127.0.0.1"):
    port = plane.address.rpartition(":")[2]
    return printed_bootstrap(kind, f"{host}:{port}", (("node_id", node), *trust, *more))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_grpc_and_envoy_are_served_with_a_certificate_of_the_service_s_namespace(
    plane, trusting, started, tmp_path, host
):
    shop = trusting(SHOP, "shop")
    grpc = printed(plane, "grpc", "grpc", shop, ("namespace", "shop"), host=host)
    address = f"127.0.0.1:{free_port()}"
    routes = {
        "listeners": [address],
        "admin": f"127.0.0.1:{free_port()}",
        "routes": [{"service": "orders.shop:8080"}],
    }
    file = tmp_path / "routes.yaml"
    file.write_text(yaml.safe_dump(routes))
    edge = printed(plane, "envoy", "edge", shop, ("routes", str(file)), host=host)
    envoy = started(Envoy("edge", edge, tmp_path))
    envoy.wait_ready()
    direct = Road("xds:///orders.shop:grpc")
    native, trimtab = started(native_client(grpc)), started(trimtab_client(grpc))
    traffic = Traffic(
        [(trimtab, {"trimtab": direct}), (native, {"native": direct, "edge": Road(address)})]
    )
    with traffic.load() as load:
        load.comes_from("a", "b")


def test_a_certificate_of_another_namespace_shows_no_service(plane, trusting, started):
    client = started(native_client(printed(plane, "grpc", "till", trusting(BANK, "bank"))))
    answer = client.call(Road("xds:///orders.shop:grpc"), within=20)
    assert answer.server is None
    assert plane.metric("trimtab_streams_refused_total") == 0


def test_envoy_takes_the_bootstrap_without_routes_too(plane, trusting, tmp_path):
    config = tmp_path / "envoy.yaml"
    config.write_text(printed(plane, "envoy", "ingress", trusting(SHOP, "shop")))
    (cluster,) = yaml.safe_load(config.read_text())["static_resources"]["clusters"]
    assert cluster["transport_socket"]["name"] == "envoy.transport_sockets.tls"
    command = [envoy_binary(), "--mode", "validate", "-c", config]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
