"""Fixtures that a conftest takes over: two Services, their servers and their control plane."""

import contextlib

import pytest

from harness.backends import Backends
from harness.control_plane import ControlPlane, free_addresses
from harness.manifests import Manifests

CONFIG = """\
clusters:
- {name: orders-eds, namespace: shop, service: orders, port: grpc}
- {name: ratelimit-eds, namespace: ratelimit, service: ratelimit-headless, port: 1081}
"""


@pytest.fixture
def started():
    """Whatever is put here is stopped at the end, the last first."""
    with contextlib.ExitStack() as stack:

        def start(part):
            stack.callback(part.stop)
            return part

        yield start


@pytest.fixture(scope="session")
def servers_process():
    """One for all tests: it takes longer to start than its servers to open and close."""
    made = Backends()
    yield made
    made.stop()


@pytest.fixture
def backends(servers_process):
    """No server is open yet; those that the test leaves open are closed after it."""
    yield servers_process
    servers_process.close_all()


@pytest.fixture
def manifests(tmp_path):
    directory = tmp_path / "manifests"
    directory.mkdir()
    return Manifests(directory)


@pytest.fixture
def orders(backends, manifests):
    """The Service ``orders.shop`` with the pods ``a`` and ``b``, by name."""
    pods = backends.open("a", "b")
    manifests.write("orders", "shop", pods)
    return {pod.name: pod for pod in pods}


@pytest.fixture
def limits(backends, manifests):
    """The headless Service ``ratelimit-headless.ratelimit`` with one pod, ``limits``."""
    pods = backends.open("limits")
    manifests.write(
        "ratelimit-headless", "ratelimit", pods, port=1081, port_name="grpc-limits", headless=True
    )


@pytest.fixture(scope="session")
def addresses():
    """One pair for all tests: each test's control plane is gone before the next one's begins."""
    return free_addresses()


@pytest.fixture
def control_plane(addresses, orders, limits, manifests, tmp_path, started):
    """A running control plane. At its end nobody may have rejected anything."""
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    plane = started(ControlPlane(addresses, manifests.path, config=config))
    plane.start()
    return plane
