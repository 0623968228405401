"""A version of trimtab that makes one Cluster which Envoy refuses: to it, within it and back, under load."""

import shutil
from pathlib import Path

import pytest

import trimtab
from harness.control_plane import ControlPlane, free_addresses
from harness.envoy import Envoy, aggregated
from harness.python_clients import native_client
from harness.traffic import Traffic
from harness.waiting import Unmet, eventually

pytestmark = pytest.mark.processes

ORDERS, LATE, LATER = "orders.shop:8080", "late.shop:8080", "later.shop:8080"
RETURN_WITHIN_S = 30  # clients back off for some seconds when their control plane is away


class BadVersion(ControlPlane):
    """One whose Cluster of one name has no time to connect within; Envoy demands some."""

    def __init__(self, addresses, manifests, name, directory):
        source = directory / f"bad-{name.partition('.')[0]}"
        shutil.copytree(Path(trimtab.__file__).parent, source / "trimtab", dirs_exist_ok=True)
        file = source / "trimtab" / "xds" / "resources.py"
        text, good = file.read_text(), "seconds=_CONNECT_TIMEOUT_S"
        assert good in text
        file.write_text(
            text.replace(good, f"seconds=0 if name == {name!r} else _CONNECT_TIMEOUT_S")
        )
        super().__init__(addresses, manifests, env={"PYTHONPATH": str(source)})
        self._bad = name

    def assert_nobody_rejected_anything(self):
        """They do."""

    def wait_refused(self, *nodes):
        """Wait until each of these has refused it on the stream that it has."""

        def look():
            found = {
                client["node"]
                for client in self.clients()
                for resource in client["resources"]
                if resource["name"] == self._bad and resource["state"] == "nacked"
            }
            return set(nodes) <= found or Unmet(f"by {sorted(found)}")

        eventually(look, within=RETURN_WITHIN_S, what=f"{self._bad} refused")


class RefusingEnvoy(Envoy):
    """One that may reject something."""

    def assert_rejected_nothing(self):
        """It does."""


@pytest.fixture
def addresses():
    return free_addresses()


@pytest.fixture
def envoys(addresses, started, tmp_path):
    """One of each variant; they start without a control plane."""
    return {
        transport: started(
            RefusingEnvoy(transport, aggregated(transport, addresses.xds, transport), tmp_path)
        )
        for transport in ("sotw", "delta")
    }


def traffic(envoys, started):
    roads = {name: envoy.road(ORDERS) for name, envoy in envoys.items()}
    return Traffic([(started(native_client("{}")), roads)])


def wait_cluster(envoys, name):
    for envoy in envoys.values():
        envoy.wait_ready()
        envoy.wait_cluster(name, within=RETURN_WITHIN_S)


def test_a_cluster_that_envoys_refuse_after_an_upgrade_is_in_use_as_it_was(
    addresses, envoys, orders, manifests, backends, started, tmp_path
):
    """Its endpoints go on; of other new Clusters an Envoy over state of the world hears on the way back."""
    good = started(ControlPlane(addresses, manifests.path))
    good.start()
    wait_cluster(envoys, ORDERS)
    a, b = orders.values()
    c, late = backends.open("c", "late")
    with traffic(envoys, started).load() as load:
        load.comes_from("a", "b")
        assert good.terminate() == 0
        bad = started(BadVersion(addresses, manifests.path, ORDERS, tmp_path))
        bad.start()
        bad.wait_refused(*envoys)
        manifests.write("late", "shop", [late])
        manifests.write("orders", "shop", [a.draining(), b, c])
        load.comes_from("b", "c", within=RETURN_WITHIN_S)
        envoys["delta"].wait_cluster(LATE)
        assert LATE not in envoys["sotw"].active_clusters()
        assert bad.metric("trimtab_streams_held", type="CDS", client="envoy") == 1
        assert bad.terminate() == 0
        good.start()
        wait_cluster(envoys, LATE)
        load.goes_on(5)


def test_a_cluster_that_envoys_never_took_holds_up_no_other_when_they_come_back(
    addresses, envoys, orders, manifests, backends, started, tmp_path
):
    assert orders
    late, later = backends.open("late", "later")
    manifests.write("late", "shop", [late])
    bad = started(BadVersion(addresses, manifests.path, LATE, tmp_path))
    bad.start()
    wait_cluster(envoys, ORDERS)
    with traffic(envoys, started).load() as load:
        load.comes_from("a", "b")
        bad.wait_refused(*envoys)
        assert bad.terminate() == 0
        bad.start()
        bad.wait_refused(*envoys)
        manifests.write("later", "shop", [later])
        wait_cluster(envoys, LATER)
        assert not bad.metric("trimtab_streams_held")
        load.goes_on(5)
