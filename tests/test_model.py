import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import ConfigError
from trimtab.model import Endpoint, Health, PolicyConfig, Problem, ServicePort, Snapshot, diff


def at(i, **more):
    return Endpoint(f"10.0.0.{i}", 80, **more)


def test_endpoints_are_sorted_so_that_equal_contents_have_equal_versions():
    one = Snapshot("a.b:1", (at(2), at(1)))
    other = Snapshot("a.b:1", (at(1), at(2)))
    assert one == other
    assert one.version == other.version


@pytest.mark.parametrize(
    "change",
    [{"weight": 2}, {"health": Health.DRAINING}, {"uid": "x"}, {"labels": (("shard", "7"),)}],
)
def test_any_changed_field_changes_the_version(change):
    assert Snapshot("a.b:1", (at(1),)).version != Snapshot("a.b:1", (at(1, **change),)).version


def test_an_address_and_port_may_appear_once():
    with pytest.raises(ConfigError, match=r"a.b:1: endpoint 10.0.0.1:80 appears twice"):
        Snapshot("a.b:1", (at(1), at(1, weight=2)))


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("address", ""),
        ("address", 5),
        ("port", 0),
        ("port", "80"),
        ("port", 80.5),
        ("port", True),
        ("health", "ready"),
        ("priority", -1),
        ("priority", "1"),
        ("ready_since", "1"),
        ("locality", "zone-a"),
    ],
)
def test_a_field_of_a_wrong_type_or_range_is_refused_by_name_and_value(field, bad):
    with pytest.raises(ConfigError) as caught:
        Endpoint(**{"address": "10.0.0.1", "port": 80, field: bad})
    assert f"{field} {bad!r} is" in str(caught.value)


def test_labels_that_are_no_pairs_are_refused_with_how_to_write_them():
    with pytest.raises(ConfigError, match=r"10.0.0.1:80: labels \{'shard': '7'\} are no tuple"):
        at(1, labels={"shard": "7"})


@pytest.mark.parametrize("params", [5, (5,), (("choices",),), {"choices": 2.0}])
def test_parameters_that_are_no_pairs_are_refused_with_how_to_write_them(params):
    with pytest.raises(
        ConfigError, match=r"policy p2c: params=.*PolicyConfig.of\('p2c', name=value"
    ):
        PolicyConfig("p2c", params)


def test_a_parameter_of_another_type_is_refused_by_name_and_value():
    with pytest.raises(ConfigError, match=r"policy p2c: parameter choices=\[2\] is neither text"):
        PolicyConfig.of("p2c", choices=[2])


@pytest.mark.parametrize("weight", [0, -1, 2**32, math.nan, 1.5, True])
def test_a_weight_that_no_client_accepts_is_refused_by_name(weight):
    with pytest.raises(ConfigError, match=r"10.0.0.1:80: weight .* is not a whole number from 1"):
        at(1, weight=weight)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_out_of_range_is_refused(port):
    with pytest.raises(ConfigError, match=rf"port {port} is not a whole number from 1 to 65535"):
        Endpoint("10.0.0.1", port)


def test_an_ipv6_target_is_bracketed():
    assert Endpoint("fd00::1", 80).target == "[fd00::1]:80"


def test_a_new_uid_at_the_same_address_is_removed_and_added():
    found = diff([at(1, uid="a"), at(2)], [at(1, uid="b"), at(2, weight=3)])
    assert found.added == (at(1, uid="b"),)
    assert found.removed == (at(1, uid="a"),)
    assert found.changed == (at(2, weight=3),)


_lists = st.dictionaries(st.integers(1, 9), st.integers(1, 3)).map(
    lambda d: [at(i, weight=w) for i, w in d.items()]
)


@given(_lists, _lists)
def test_applying_a_diff_gives_the_new_list(old, new):
    found = diff(old, new)
    state = {e.key: e for e in old}
    for gone in found.removed:
        del state[gone.key]
    for came in (*found.added, *found.changed):
        state[came.key] = came
    assert state == {e.key: e for e in new}
    assert bool(found) is (state != {e.key: e for e in old})


def test_a_service_port_names_its_cluster():
    assert ServicePort("orders", "shop", 8080, "grpc").cluster == "orders.shop:8080"


def test_a_policy_configuration_is_the_same_whatever_the_order_of_its_parameters():
    assert PolicyConfig.of("x", b=1, a="t") == PolicyConfig.of("x", a="t", b=1.0)
    assert PolicyConfig.of("x", b=Fraction(1, 2)) == PolicyConfig.of("x", b=0.5)


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        (Problem("Service a/b", "spec.type", "'X'", "say Y"), "Service a/b: spec.type: 'X': say Y"),
        (Problem("a.yaml:3", "", "", "mend it"), "a.yaml:3: mend it"),
        (Problem("Service a/b", "spec.ports", "", "give one"), "Service a/b: spec.ports: give one"),
    ],
)
def test_a_problem_reads_as_one_line_without_its_empty_parts(problem, line):
    assert str(problem) == line
