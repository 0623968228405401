"""``*`` stands for any characters, and nothing else is special."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.control.authorization import Identity, Policy, Rule
from trimtab.control.patterns import fits
from trimtab.model import ServicePort

SHOP = ServicePort("orders", "shop", 80)


@given(st.text("ab/", max_size=8), st.text("ab/*", max_size=8))
def test_it_agrees_with_a_regular_expression(text, pattern):
    expected = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
    assert fits(text, pattern) is bool(expected.fullmatch(text))


@pytest.mark.parametrize(
    ("pattern", "subject"),
    [
        ("static:w?b", "static:web"),
        ("static:[wc]eb", "static:web"),
        ("static:[!x]eb", "static:web"),
        ("static:WEB", "static:web"),
    ],
)
def test_the_shells_other_patterns_let_nobody_in(pattern, subject):
    rule = Rule(pattern, namespaces=("shop",))
    assert not Policy(rules=(rule,)).sees(Identity(subject), SHOP)
    assert Policy(rules=(rule,)).sees(Identity(pattern), SHOP)


@pytest.mark.parametrize("pattern", ["sho?", "[s]hop"])
def test_nor_do_they_show_a_namespace_or_a_service(pattern):
    anybody = Identity("static:web")
    assert not Policy(rules=(Rule("*", namespaces=(pattern,)),)).sees(anybody, SHOP)
    by_name = Rule("*", services=(f"orders.{pattern}",))
    assert not Policy(rules=(by_name,)).sees(anybody, SHOP)
