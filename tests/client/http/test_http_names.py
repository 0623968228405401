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
    "hosts", ["*.shop", ["http://orders.shop"], ["*"], ["a*.shop"], ["*shop"], [""]]
)
def test_a_wrong_pattern_is_refused_with_what_to_write(hosts):
    with pytest.raises(ConfigError, match="hosts: "):
        HttpNames(hosts, None)
