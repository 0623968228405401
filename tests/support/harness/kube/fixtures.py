"""Fixtures that a conftest takes over: a real API server for the session, a namespace per test."""

import contextlib
import socket
from dataclasses import dataclass
from itertools import count

import pytest

from harness.client import Road
from harness.control_plane import ControlPlane
from harness.kube import manifests, objects
from harness.kube.account import Account
from harness.kube.api_server import ApiServer
from harness.kube.controllers import Controllers
from harness.kube.credentials import Credentials
from harness.kube.etcd import Etcd
from harness.kube.space import Space
from harness.python_clients import native_client, trimtab_client
from harness.traffic import Traffic

HOST = "10.77.0.1"
ZONES = ("z1", "z2")
_numbers = count(1)


def _assert_private_network():
    with socket.socket() as probe:
        try:
            probe.bind((HOST, 0))
        except OSError:
            raise AssertionError(
                f"{HOST} is not there: run the tests with `make interop` or interop/private_network"
            ) from None


@dataclass(frozen=True)
class KubeCluster:
    """A cluster as the tests use it.

    Attributes:
        api: its API server.
        etcd: the store of that.
        kubeconfig: of the ServiceAccount that ``deploy/kubernetes`` makes, with its rights.
    """

    api: ApiServer
    etcd: Etcd
    kubeconfig: object


@pytest.fixture(scope="session")
def kube_etcd(tmp_path_factory):
    _assert_private_network()
    etcd = Etcd(tmp_path_factory.mktemp("etcd"))
    etcd.start()
    yield etcd
    etcd.stop()


@pytest.fixture(scope="session")
def kube_session(kube_etcd, tmp_path_factory):
    """The API server of the session, with the real endpointslice controller."""
    directory = tmp_path_factory.mktemp("cluster")
    with contextlib.ExitStack() as stack:
        api = ApiServer(HOST, kube_etcd, Credentials(directory / "credentials"))
        stack.callback(api.stop)
        api.start()
        controllers = Controllers(api.credentials.admin_kubeconfig(api.url), directory)
        stack.callback(controllers.stop)
        controllers.start()
        for zone in ZONES:
            node = api.admin.create(objects.node(zone))
            api.admin.merge(node, objects.node_status(), subresource="status")
        manifests.install_access(api.admin)
        account = Account(api, manifests.ACCOUNT, manifests.NAMESPACE, directory)
        account.write_token()
        yield KubeCluster(api, kube_etcd, account.kubeconfig)


@pytest.fixture
def cluster(kube_session):
    """The session's cluster, whose API server runs whatever an earlier test did to it."""
    if not kube_session.api.running:
        kube_session.api.start()
    return kube_session


@pytest.fixture
def space(cluster, backends):
    """A namespace of this test's own."""
    space = Space(f"t{next(_numbers)}", cluster.api.admin, backends)
    yield space
    if cluster.api.running:
        space.clear()


@pytest.fixture
def orders_pods(space):
    """The Service ``orders`` of the test's namespace with the pods ``a`` and ``b``, by name."""
    space.service()
    return {pod.name: pod for pod in space.open("a", "b")}


@pytest.fixture
def kube_control_plane(addresses, cluster, space, started):
    """A running ``trimtab serve --kubeconfig``. At its end nobody may have rejected anything."""
    plane = started(ControlPlane(addresses, None, options=["--kubeconfig", cluster.kubeconfig]))
    plane.start()
    return plane


@pytest.fixture
def kube_traffic(kube_control_plane, space, started):
    """Native gRPC and trimtab's client, to the Service ``orders`` of the test's namespace."""
    return traffic_of(kube_control_plane, space, started)


def traffic_of(control_plane, space, started):
    """Clients of that control plane, in that namespace."""
    made = []
    for name, client in (("native", native_client), ("trimtab", trimtab_client)):
        printed = control_plane.bootstrap("grpc", node_id=name, namespace=space.name)
        road = Road(f"xds:///orders.{space.name}:8080")
        made.append((started(client(printed)), {name: road}))
    return Traffic(made)
