"""The page of annotations lists what the code knows."""

import re
from pathlib import Path

import yaml

from kube import Folded
from trimtab import policies
from trimtab.discovery.service_annotations import KNOWN

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "annotations.md").read_text()
ROWS = {
    cells[0].strip("`"): cells[1:]
    for line in PAGE.splitlines()
    if (cells := [c.strip() for c in line.strip("|").split("|")])[0].startswith("`trimtab.dev/")
}


def test_the_page_lists_exactly_the_annotations_of_the_code():
    assert {name: cells[2] for name, cells in ROWS.items()} == KNOWN


def test_the_page_lists_the_policies_that_come_with_trimtab():
    listed = re.findall(r"`(\w+)`", ROWS["trimtab.dev/policy"][0])
    assert listed == sorted(policies.names())


def test_the_page_names_the_default_policy():
    assert f"`{policies.DEFAULT}`" in ROWS["trimtab.dev/policy"][1]


def test_the_example_of_the_page_is_taken_without_a_problem():
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    folded = Folded(yaml.safe_load(example))
    assert folded.problems == []
    assert folded.clusters["orders.shop:8080"].policy.name == "round_robin"
