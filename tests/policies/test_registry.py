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


def test_a_name_can_be_registered_once():
    with pytest.raises(ConfigError, match="registered twice"):
        policies.register("p2c")(lambda _params, _random: None)
