"""What a Service says of further attempts, and what of it is refused."""

import pytest

from kube import Folded, service
from trimtab.discovery.retry_annotations import ATTEMPTS, BUDGET, HEDGE_AFTER, METHODS, ON
from trimtab.model import Repeatable
from trimtab.xds.cluster_policy import struct
from trimtab.xds.repeating import FIELD, fields_of, read_fields


def read(**annotations):
    names = {
        "methods": METHODS,
        "on": ON,
        "attempts": ATTEMPTS,
        "hedge": HEDGE_AFTER,
        "budget": BUDGET,
    }
    folded = Folded(service(annotations={names[k]: v for k, v in annotations.items()}))
    (cluster,) = folded.clusters.values()
    return cluster.service.repeatable, folded.problems


def test_methods_alone_get_the_defaults():
    assert read(methods="shop.Orders/Get") == (Repeatable(("/shop.Orders/Get",)), [])


def test_everything_can_be_said():
    said = {
        "methods": "/shop.Orders/List, shop.Orders/,GET, *",
        "on": "UNAVAILABLE,ABORTED",
        "attempts": "2",
        "hedge": "50ms",
        "budget": "5%",
    }
    repeatable, problems = read(**said)
    assert problems == []
    methods = ("*", "/shop.Orders/", "/shop.Orders/List", "GET")
    assert repeatable == Repeatable(methods, ("ABORTED", "UNAVAILABLE"), 2, 0.05, None, 0.05)


def test_a_hedge_may_leave_at_a_quantile():
    repeatable, _ = read(methods="*", hedge="p95")
    assert (repeatable.hedge_after_s, repeatable.hedge_quantile) == (None, 0.95)


@pytest.mark.parametrize("text", ["p01", "p50", "p99", "p99.9"])
def test_a_quantile_that_may_be_written_is_one_that_clients_take(text):
    repeatable, problems = read(methods="*", hedge=text)
    assert problems == []
    assert repeatable.hedge_quantile == pytest.approx(float(text[1:]) / 100)
    assert read_fields(struct({FIELD: fields_of(repeatable)}).fields) == repeatable


@pytest.mark.parametrize(
    "methods",
    ["", "Orders", "shop Orders/Get", "get", "a/b,;", ",".join(f"s/M{n}" for n in range(65))],
)
def test_methods_that_are_none_declare_nothing(methods):
    repeatable, (problem,) = read(methods=methods)
    assert repeatable is None
    assert problem.field == f"metadata.annotations[{METHODS}]"
    assert "none is repeated" in problem.fix


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("on", "OK"),
        ("on", "503"),
        ("attempts", "1"),
        ("attempts", "6"),
        ("attempts", "two"),
        ("hedge", "p5"),
        ("hedge", "p00"),
        ("hedge", "p00.9"),
        ("hedge", "61s"),
        ("hedge", "soon"),
        ("budget", "101%"),
        ("budget", "0.2"),
    ],
)
def test_a_bad_value_costs_only_itself(name, value):
    repeatable, (problem,) = read(methods="*", **{name: value})
    assert repeatable == Repeatable(("*",))
    assert value in problem.value
    assert "the default is used" in problem.fix


def test_what_needs_methods_says_so():
    repeatable, (problem,) = read(attempts="3")
    assert repeatable is None
    assert METHODS in problem.fix


def test_the_kill_switch_declares_nothing_whatever_the_other_annotations_say():
    def said(switch):
        folded = Folded(service(annotations={METHODS: "*", "trimtab.dev/disable": switch}))
        (cluster,) = folded.clusters.values()
        return cluster.service.repeatable

    assert said("on") is None
    assert said("off") == Repeatable(("*",))
