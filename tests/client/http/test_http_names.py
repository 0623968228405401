"""Which URLs name a cluster."""

import pytest

from trimtab.client.http_names import HttpNames
from trimtab.errors import ConfigError


@pytest.mark.parametrize(
    ("hosts", "url", "cluster"),
    [
        (["orders.shop:8080"], ("http", "orders.shop", 8080), "orders.shop:8080"),
        (["orders.shop:8080"], ("http", "orders.shop", 8081), None),
        (["orders.shop"], ("http", "orders.shop", 8081), "orders.shop:8081"),
        (["orders.shop"], ("http", "orders.shop", None), "orders.shop:80"),
        (["orders.shop"], ("https", "orders.shop", None), "orders.shop:443"),
        (["orders.shop"], ("ws", "orders.shop", None), "orders.shop:80"),
        (["orders.shop"], ("wss", "orders.shop", None), "orders.shop:443"),
        (["*.shop"], ("http", "orders.shop", None), "orders.shop:80"),
        (["*.shop"], ("http", "shop", None), None),
        (["*.shop"], ("http", "workshop", None), None),
        (["Orders.Shop"], ("http", "orders.shop", None), "orders.shop:80"),
        ([], ("http", "orders.shop", None), None),
        ([], ("xds", "orders.shop", None), "orders.shop"),
        ([], ("xds", "orders.shop", 8080), "orders.shop:8080"),
    ],
)
def test_only_hosts_that_were_named(hosts, url, cluster):
    assert HttpNames(hosts, None).cluster(*url) == cluster


@pytest.mark.parametrize(
    "hosts", ["*.shop", ["http://orders.shop"], ["*"], ["a*.shop"], ["*shop"], [""], [5], None]
)
def test_a_wrong_pattern_is_refused_with_what_to_write(hosts):
    with pytest.raises(ConfigError, match="hosts: "):
        HttpNames(hosts, None)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("Orders.shop:8080", ("http", "orders.shop", 8080)),
        ("orders.shop", ("http", "orders.shop", 8080)),
        ("orders.shop", ("https", "orders.shop", None)),
        ("orders.shop", ("xds", "orders.shop", None)),
    ],
)
def test_fixed_lists_are_found_whatever_the_case_and_without_a_port_for_all_of_them(given, url):
    names = HttpNames([], {given: ["10.0.0.1:80"]})
    assert [e.target for e in names.endpoints(names.cluster(*url))] == ["10.0.0.1:80"]


def test_a_list_with_a_port_goes_before_one_without():
    names = HttpNames([], {"orders.shop": ["10.0.0.1:80"], "orders.shop:81": ["10.0.0.2:81"]})
    assert [e.target for e in names.endpoints("orders.shop:81")] == ["10.0.0.2:81"]
    assert [e.target for e in names.endpoints("orders.shop:80")] == ["10.0.0.1:80"]


@pytest.mark.parametrize(
    ("endpoints", "told"),
    [
        ({"*.shop": []}, "endpoints: '\\*.shop' is no cluster's name"),
        ({"http://orders.shop": []}, "endpoints: 'http://orders.shop' is no cluster's name"),
        ({"A.shop:1": [], "a.shop:1": []}, "endpoints: 'a.shop:1' is there twice"),
        ({5: ["10.0.0.1:80"]}, "endpoints: 5 is no cluster's name"),
        ({"a.shop:1": 5}, "a.shop:1: endpoints: 5 is no list"),
        ({"a.shop:1": {"10.0.0.1:80": 1}}, "a.shop:1: endpoints: .* is no list"),
    ],
)
def test_a_list_of_no_cluster_is_refused(endpoints, told):
    with pytest.raises(ConfigError, match=told):
        HttpNames([], endpoints)
