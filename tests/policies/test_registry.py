import os
import subprocess
import sys
from random import Random

import pytest

from trimtab import policies
from trimtab.errors import ConfigError
from trimtab.model import PolicyConfig


def test_the_built_in_policies_are_known():
    assert {"p2c", "round_robin", "random"} <= set(policies.names())


def test_an_unknown_policy_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"policy 'least' is unknown; known are .*p2c"):
        policies.build(PolicyConfig("least"), Random(1))


@pytest.mark.parametrize("name", ["p2c", "round_robin", "random"])
def test_a_parameter_that_a_policy_lacks_is_refused_by_name(name):
    with pytest.raises(ConfigError, match="choices=2"):
        policies.build(PolicyConfig.of(name, choices=2), Random(1))


def test_no_configuration_means_the_default():
    assert type(policies.build(None, Random(1))) is type(
        policies.build(PolicyConfig(policies.DEFAULT), Random(1))
    )


def test_another_package_adds_a_policy_by_an_entry_point(tmp_path):
    """As pip installs it: a module, and the metadata that name it."""
    (tmp_path / "nearest.py").write_text(
        "from trimtab.policies.p2c import P2C\n"
        "class Nearest(P2C):\n"
        "    def pick(self, now, key=None):\n"
        "        return min(self._nodes, key=lambda node: node.endpoint.port)\n"
        "def build(params, random):\n"
        "    return Nearest(random)\n"
    )
    metadata = tmp_path / "nearest-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: nearest\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[trimtab.policies]\nnearest = nearest:build\n")
    program = (
        "from random import Random\n"
        "from trimtab.balancer import Balancer\n"
        "from trimtab.model import Endpoint, PolicyConfig, Snapshot\n"
        "from trimtab.policies import names\n"
        "b = Balancer('a.b:1', clock=lambda: 0.0, random=Random(1))\n"
        "pods = tuple(Endpoint('10.0.0.1', port) for port in (7, 8, 9))\n"
        "b.update(Snapshot('a.b:1', pods, policy=PolicyConfig('nearest')))\n"
        "print('nearest' in names(), b.policy_error, {b.pick().node.endpoint.port for _ in pods})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout.split() == ["True", "{7}"], done.stderr


def test_a_name_can_be_registered_once():
    with pytest.raises(ConfigError, match="registered twice"):
        policies.register("p2c")(lambda _params, _random: None)


def test_a_built_in_name_is_taken_before_anything_was_built():
    """In a fresh process, where no built-in policy is loaded yet."""
    script = (
        "from trimtab import policies, errors\n"
        "try: policies.register('token')(lambda _params, _random: None)\n"
        "except errors.ConfigError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert "policy 'token' is registered twice" in done.stdout


def test_what_a_factory_gives_has_all_methods_or_is_refused_by_name(monkeypatch):
    class Half:
        def update(self, nodes, now):
            """As it should be."""

        done = None

    monkeypatch.setitem(policies._registry, "half", lambda _params, _random: Half())
    with pytest.raises(
        ConfigError, match=r"policy 'half': .* Half, which lacks the method pick and done"
    ):
        policies.build(PolicyConfig("half"), Random(1))


def test_a_factory_that_raises_refuses_its_parameters(monkeypatch):
    monkeypatch.setitem(policies._registry, "sized", lambda params, _random: params["size"])
    with pytest.raises(ConfigError, match=r"policy 'sized': .*KeyError\('size'\).*\{'sise': 3.0\}"):
        policies.build(PolicyConfig.of("sized", sise=3), Random(1))
