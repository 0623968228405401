"""Fixtures that a conftest takes over: a real API server for the session, a namespace per test."""

import contextlib
import socket
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from harness.client import Road
from harness.control_plane import ControlPlane
from harness.kube import manifests, objects
from harness.kube.account import Account
from harness.kube.api_server import ApiServer
from harness.kube.controllers import Controllers
from harness.kube.credentials import Credentials
from harness.kube.etcd import Etcd
from harness.kube.roads import and_others
from harness.kube.space import Space
from harness.python_clients import native_client, trimtab_client
from harness.traffic import Traffic

HOST, BARE_HOST = "10.77.0.1", "10.77.0.4"
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
        controlled: whether the endpointslice controller runs.
    """

    api: ApiServer
    etcd: Etcd
    kubeconfig: Path
    controlled: bool


@pytest.fixture(scope="session")
def kube_etcd(tmp_path_factory):
    _assert_private_network()
    etcd = Etcd(tmp_path_factory.mktemp("etcd"))
    etcd.start()
    yield etcd
    etcd.stop()


@pytest.fixture(scope="session")
def kube_session(kube_etcd, tmp_path_factory):
    """The API server of the session, with the real endpointslice controller. Never disturbed."""
    directory = tmp_path_factory.mktemp("cluster")
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(_running(HOST, kube_etcd, directory, controlled=True))
        admin = cluster.api.admin
        kubeconfig = cluster.api.credentials.admin_kubeconfig(cluster.api.url)
        controllers = Controllers(kubeconfig, directory)
        stack.callback(controllers.stop)
        controllers.start()
        for zone in ZONES:
            node = admin.create(objects.node(zone))
            admin.merge(node, objects.node_status(), subresource="status")
        yield cluster


@pytest.fixture(scope="session")
def bare_session(kube_etcd, tmp_path_factory):
    """An API server without controllers, which take long to notice that it was restarted."""
    directory = tmp_path_factory.mktemp("bare")
    with _running(BARE_HOST, kube_etcd, directory, prefix="/bare") as cluster:
        yield cluster


@contextlib.contextmanager
def _running(host, etcd, directory, *, controlled=False, **options):
    credentials = Credentials(directory / "credentials")
    api = ApiServer(host, etcd, credentials, **options)
    try:
        api.start()
        manifests.install_access(api.admin)
        account = Account(api, manifests.ACCOUNT, manifests.NAMESPACE, directory)
        account.write_token()
        yield KubeCluster(api, etcd, account.kubeconfig, controlled)
    finally:
        api.stop()


@pytest.fixture
def cluster(kube_session):
    """The cluster of the test."""
    return kube_session


@pytest.fixture
def bare_cluster(bare_session):
    """A cluster whose API server the test may kill; it runs, whatever the last test did to it."""
    if not bare_session.api.running:
        bare_session.api.start()
    return bare_session


@pytest.fixture
def space(cluster, backends):
    """A namespace of this test's own."""
    admin = cluster.api.admin
    space = Space(f"t{next(_numbers)}", admin, backends, controlled=cluster.controlled)
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


@pytest.fixture
def every_road(kube_traffic, kube_control_plane, orders_pods, space, started, tmp_path):
    """Every kind of client to the Service ``orders``: see ``roads.and_others``."""
    assert orders_pods
    return and_others(kube_traffic, kube_control_plane, space, started, tmp_path)


def traffic_of(control_plane, space, started):
    """Clients of that control plane, in that namespace."""
    made = []
    for name, client in (("native", native_client), ("trimtab", trimtab_client)):
        printed = control_plane.bootstrap("grpc", node_id=name, namespace=space.name)
        road = Road(f"xds:///orders.{space.name}:8080")
        made.append((started(client(printed)), {name: road}))
    return Traffic(made)
