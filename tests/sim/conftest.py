"""Small worlds to simulate."""

from pathlib import Path

import pytest
import yaml

from trimtab.sim.scenario import read_scenario

BASE = {
    "title": "a test",
    "clients": {"count": 4},
    "servers": {"count": 4, "workers": 4},
    "load": {"rho": 0.7},
    "service": {"mean_ms": 10},
    "requests": 4000,
    "policies": ["p2c"],
    "bounds": False,
    "seeds": [1],
}


@pytest.fixture
def scenario():
    """Makes one of keys in YAML's form; None takes a key away."""

    def made(**changes):
        content = {k: v for k, v in (BASE | changes).items() if v is not None}
        # Through text, as a file would come.
        return read_scenario(yaml.safe_load(yaml.safe_dump(content)), Path("test.yaml"))

    return made
