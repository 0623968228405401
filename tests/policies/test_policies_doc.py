"""The page of policies lists what the code has, with the defaults that it has."""

import re
from pathlib import Path
from random import Random

import pytest

from trimtab import policies
from trimtab.errors import ConfigError
from trimtab.model import PolicyConfig
from trimtab.policies.stack import NAMES, Judges, Stack

PAGE = (Path(__file__).parents[2] / "docs" / "policies.md").read_text()
ROWS = {
    cells[0].strip("`"): cells[1:]
    for line in PAGE.split("## The policies")[1].split("## The judges")[0].splitlines()
    if (cells := [c.strip() for c in line.strip("|").split("|")])[0].startswith("`")
}
JUDGES = PAGE.split("## The judges")[1].split("## A key")[0]


def test_every_policy_has_its_row():
    assert set(ROWS) == set(policies.names())


@pytest.mark.parametrize("name", policies.names())
def test_a_row_names_the_parameters_with_their_defaults(name):
    listed = dict(re.findall(r"`(\w+)`(?: ([\d.]+))?", ROWS[name][1]))
    with pytest.raises(ConfigError) as refused:
        policies.build(PolicyConfig.of(name, no_such_parameter=1), Random(1))
    known = str(refused.value).partition("known are ")[2]
    assert set(listed) == set(filter(None, known.split(", ")))
    given = {key: float(value) for key, value in listed.items() if value}
    built, default = (
        policies.build(config, Random(1))
        for config in (PolicyConfig.of(name, **given), PolicyConfig(name))
    )
    for key, value in given.items():
        attribute = {"probes": "_rate"}.get(key, f"_{key}")
        assert getattr(built, attribute) == getattr(default, attribute) == value


def test_the_judges_are_named_with_their_defaults():
    for name in set(NAMES) - {"judges"}:
        assert f"`{name}`" in JUDGES
    stack = Stack(None, Random(1))
    assert stack.judges == Judges(
        eject_s=10.0, error_bias=8.0, slow_start_s=10.0, zone="prefer", stalls=True
    )
    assert "`eject_s` 10" in JUDGES
    assert "`stalls` true" in JUDGES
    assert "`error_bias` 8" in JUDGES
    assert "`slow_start_s` 10" in JUDGES
    assert "`zone` prefer" in JUDGES
