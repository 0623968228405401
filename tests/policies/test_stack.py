"""A policy with its judges: parameters, and changes at run time."""

from random import Random

import pytest

from trimtab.errors import ConfigError
from trimtab.load_report import LoadReport
from trimtab.model import PolicyConfig
from trimtab.policies import Outcome
from trimtab.policies.gate import Gate
from trimtab.policies.p2c import P2C
from trimtab.policies.shares import LEAST, Shares
from trimtab.policies.stack import Stack
from trimtab.testing.policy_contract import node


def stack(name="p2c", **params):
    return Stack(PolicyConfig.of(name, **params), Random(1))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"judges": "perhaps"}, "judges='perhaps' is neither true nor false"),
        ({"eject_s": -1}, r"eject_s=-1.0 is not a number from 0.001 to 3600"),
        ({"slow_start_s": "soon"}, "slow_start_s='soon' is not a number"),
        ({"slow_start_s": float("nan")}, "slow_start_s=nan is not a number"),
        ({"zone": "near"}, "zone='near' is not one of prefer, strict, off"),
        ({"colour": "red"}, "colour='red' is unknown"),
        ({"error_bias": True}, "error_bias=True is not a number"),
    ],
)
def test_a_bad_parameter_is_named_with_what_would_be_good(params, message):
    with pytest.raises(ConfigError, match=f"policy p2c: parameter {message}"):
        stack(**params)


@pytest.mark.parametrize("given", [True, "true", 1, "1"])
def test_numbers_and_flags_may_come_as_text(given):
    assert stack(judges=given, slow_start_s="3").judges.slow_start_s == 3.0


def test_without_judges_it_is_the_policy_alone():
    assert type(stack(judges=False).outer) is P2C


def test_a_policy_without_a_cost_is_gated():
    nodes = [node(0), node(1)]
    gate = Gate(stack("round_robin", judges=False).outer, Random(1))
    gate.update(nodes, 0.0)
    nodes[0].share = 0.2
    n = 20_000
    part = sum(gate.pick(0.0) is nodes[0] for _ in range(n)) / n
    # Round robin offers it each second time; 0.2 of them, and those that others were refused for.
    assert part < 0.25
    assert part > 0.05


def test_another_policy_keeps_what_the_judges_know():
    first = stack()
    nodes = [node(i) for i in range(10)]
    first.outer.update(nodes, 0.0)
    for _ in range(5):
        first.outer.done(nodes[0], Outcome.FAILURE, 0.01, 0.0, None)
    second = first.follow(PolicyConfig("round_robin"))
    assert second is first
    second.outer.update(nodes, 1.0)
    assert second.ejection.ejected == {nodes[0]}
    assert nodes[0] not in {second.outer.pick(1.0) for _ in range(50)}


def test_other_judges_begin_anew_and_take_their_word_back():
    first = stack()
    nodes = [node(i) for i in range(10)]
    first.outer.update(nodes, 0.0)
    first.outer.done(nodes[0], Outcome.FAILURE, 0.01, 0.0, None)
    assert nodes[0].share < 1.0
    second = first.follow(PolicyConfig.of("p2c", judges=False))
    assert second is not first
    assert nodes[0].share == 1.0


def test_a_bad_configuration_leaves_the_stack_as_it_was():
    first = stack()
    inner = first._innermost.inner
    with pytest.raises(ConfigError):
        first.follow(PolicyConfig("from_the_future"))
    assert first._innermost.inner is inner


def test_shares_multiply_and_come_back_exactly():
    shares, one = Shares(), node(0)
    shares.set(one, "a", 0.5)
    shares.set(one, "b", 0.5)
    assert one.share == 0.25
    shares.set(one, "a", 1.0)
    assert one.share == 0.5
    shares.set(one, "b", 0.0001)
    assert one.share == LEAST
    shares.set(one, "b", 1.0)
    assert one.share == 1.0


def test_a_ring_that_gives_way_to_zones_leaves_no_judge_busy():
    first = Stack(PolicyConfig("ring_hash"), Random(1), "a")
    nodes = [node(i) for i in range(10)]
    nodes[0].since = 1.0
    first.outer.update(nodes, 1.0)
    assert first._busy.now
    second = first.follow(PolicyConfig("p2c"))
    assert second.zones is not None
    second.outer.update(nodes[1:], 1.0)
    assert not second._busy.now


@pytest.mark.parametrize("answered", [False, True])
def test_a_pushback_that_ends_with_an_update_or_an_answer_leaves_no_judge_busy(answered):
    first = stack()
    nodes = [node(i) for i in range(10)]
    first.outer.update(nodes, 0.0)
    first.done(nodes[0], Outcome.OVERLOADED, 0.01, 0.0, LoadReport(retry_after=1.0))
    assert first._busy.now
    if answered:
        first.done(nodes[0], Outcome.SUCCESS, 0.5, 1.05, None)
    else:
        first.outer.update(nodes, 1.05)
    assert nodes[0].share == 1.0
    assert not first._busy.now
