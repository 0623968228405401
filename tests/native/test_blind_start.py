"""A control plane that starts while the API server is away, with a state file: new clients are served."""

import pytest
import yaml

from harness.control_plane import ControlPlane
from harness.fixtures import CONFIG
from harness.ports import free_port

pytestmark = pytest.mark.processes


@pytest.fixture
def control_plane(addresses, orders, limits, manifests, tmp_path, started):
    """Reads a cluster whose API server nobody answers for; an earlier life wrote the state file."""
    del orders, limits
    config, state, kubeconfig = (tmp_path / name for name in ("config.yaml", "state", "kubeconfig"))
    config.write_text(CONFIG)
    keeping = ["--state", str(state)]
    earlier = ControlPlane(addresses, str(manifests.path), options=keeping, config=str(config))
    earlier.start()
    assert earlier.terminate() == 0
    assert state.exists()
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "clusters": [
                    {"name": "c", "cluster": {"server": f"https://127.0.0.1:{free_port()}"}}
                ],
                "users": [{"name": "u", "user": {}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    # The state file knows its sources by name.
    blind = ["--kubeconfig", f"manifests={kubeconfig}", "--state-after", "0.2", *keeping]
    plane = started(ControlPlane(addresses, None, options=blind, config=str(config)))
    plane.start()
    return plane


def test_every_client_that_comes_is_served_from_the_state_file(traffic, control_plane):
    with traffic.load() as load:
        load.comes_from("a", "b")
        control_plane.wait_clients(*traffic.nodes, within=20)
        load.goes_on(5)
    assert control_plane.metric("trimtab_clusters_on_trust") >= 2


def test_and_so_it_is_after_the_next_kill(traffic, control_plane):
    with traffic.load() as load:
        load.comes_from("a", "b")
        control_plane.kill()
        load.goes_on(5)
        control_plane.start()
        control_plane.wait_clients(*traffic.nodes, within=30)
        load.goes_on(5)
        load.comes_from("a", "b")
