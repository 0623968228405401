"""A fixed list becomes a snapshot, or an error that names the bad item."""

import math

import pytest

from trimtab.discovery.static import snapshot_of
from trimtab.errors import ConfigError
from trimtab.model import Endpoint


def test_texts_and_endpoints_make_a_sorted_snapshot():
    found = snapshot_of(
        "orders", ["orders.internal:80", "[2001:DB8::1]:81", "10.0.0.1:82", Endpoint("10.0.0.0", 9)]
    )
    assert found.cluster == "orders"
    assert [e.target for e in found.endpoints] == [
        "10.0.0.0:9",
        "10.0.0.1:82",
        "[2001:db8::1]:81",
        "orders.internal:80",
    ]


def test_no_endpoints_are_an_empty_cluster():
    assert snapshot_of("orders", []).endpoints == ()


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ("10.0.0.1", "no port"),
        ("10.0.0.1:", "not a number"),
        (":80", "no host"),
        ("", "no host"),
        ("10.0.0.1:http", "'http'"),
        ("10.0.0.1:0", "from 1 to 65535"),
        ("10.0.0.1:65536", "from 1 to 65535"),
        ("10.0.0.1:" + "9" * 5_000, "from 1 to 65535"),
        ("10.0.0.1:-1", "'-1'"),
        ("10.0.0.1:٨٠", "not a number"),
        ("2001:db8::1:80", "without brackets"),
        ("[2001:db8::1]", "no port"),
        ("[10.0.0.1]:80", "no IPv6 address"),
        ("[]:80", "no IPv6 address"),
        ("http://10.0.0.1:80", "URL"),
        ("10.0.0.1:80/path", "URL"),
        ("10.0.0.1 :80", "spaces"),
        (7, "neither text nor an Endpoint"),
        (None, "neither text nor an Endpoint"),
        (("10.0.0.1", 80), "neither text nor an Endpoint"),
    ],
)
def test_a_bad_item_is_named_with_its_place_and_what_is_wrong(item, why):
    with pytest.raises(ConfigError) as caught:
        snapshot_of("orders", ["10.0.0.9:80", item])
    assert "endpoints[1]" in str(caught.value)
    assert why in str(caught.value)


def test_one_text_instead_of_a_list_is_refused():
    with pytest.raises(ConfigError, match="give a list"):
        snapshot_of("orders", "10.0.0.1:80")


def test_what_is_no_list_is_refused():
    with pytest.raises(ConfigError, match="endpoints: 5 is no list; give one"):
        snapshot_of("orders", 5)


def test_an_endpoint_that_stands_twice_is_refused():
    with pytest.raises(ConfigError, match=r"10\.0\.0\.1:80 appears twice"):
        snapshot_of("orders", ["10.0.0.1:80", Endpoint("10.0.0.1", 80)])


@pytest.mark.parametrize("weight", [math.nan, -1, 0, 1.5, True, 2**32])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(ConfigError, match="weight"):
        snapshot_of("orders", [Endpoint("10.0.0.1", 80, weight=weight)])
