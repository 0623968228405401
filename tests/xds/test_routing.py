import pytest

from trimtab.errors import ProtocolError
from trimtab.xds import wire_pb2 as wire
from trimtab.xds.routing import check_routes, cluster_for


def route(cluster="", prefix="", **match):
    return wire.Route(
        match=wire.RouteMatch(prefix=prefix, **match), route=wire.RouteAction(cluster=cluster)
    )


def hosts(**domains):
    return wire.RouteConfiguration(
        virtual_hosts=[
            wire.VirtualHost(name=name, domains=patterns, routes=[route(name)])
            for name, patterns in domains.items()
        ]
    )


ALL = hosts(
    exact=["orders.shop:8080"],
    suffix=["*.shop:8080"],
    longer=["*ders.shop:8080"],
    prefix=["orders.*"],
    anything=["*"],
)


@pytest.mark.parametrize(
    ("authority", "cluster"),
    [
        ("orders.shop:8080", "exact"),
        ("ORDERS.shop:8080", "exact"),
        ("riders.shop:8080", "longer"),
        ("ders.shop:8080", "suffix"),
        ("mail.shop:8080", "suffix"),
        (".shop:8080", "anything"),
        ("orders.shop:9090", "prefix"),
        ("orders.", "anything"),
        ("mail.office:25", "anything"),
    ],
)
def test_exact_beats_suffix_beats_prefix_beats_all_and_longer_wins(authority, cluster):
    assert cluster_for(ALL, authority) == cluster


def test_no_matching_virtual_host_means_no_cluster():
    assert cluster_for(hosts(a=["a.shop"], b=["*.b"]), "orders.shop") is None


def test_the_last_route_without_conditions_is_the_default():
    host = wire.VirtualHost(
        domains=["*"],
        routes=[
            route("first"),
            route("default", "/"),
            route("by-path", "/pkg.Service/"),
            route("by-header", headers=[b"\x0a\x01x"]),
            route("by-query", query_parameters=[b"\x0a\x01x"]),
            route("by-fraction", runtime_fraction=b"\x0a\x02\x08\x01"),
            wire.Route(
                match=wire.RouteMatch(path="/pkg.Service/Get"),
                route=wire.RouteAction(cluster="exact"),
            ),
            wire.Route(match=wire.RouteMatch(prefix="")),
        ],
    )
    assert cluster_for(wire.RouteConfiguration(virtual_hosts=[host]), "x") == "default"


def test_of_a_split_the_heaviest_cluster_gets_all():
    action = wire.RouteAction(
        weighted_clusters=wire.WeightedCluster(
            clusters=[
                wire.WeightedCluster.ClusterWeight(name="canary", weight={"value": 5}),
                wire.WeightedCluster.ClusterWeight(name="stable", weight={"value": 95}),
            ]
        )
    )
    host = wire.VirtualHost(
        domains=["*"], routes=[wire.Route(match=wire.RouteMatch(prefix=""), route=action)]
    )
    assert cluster_for(wire.RouteConfiguration(virtual_hosts=[host]), "x") == "stable"


@pytest.mark.parametrize("domain", ["", "a*b", "**", "*a*", "a.*.b"])
def test_a_broken_domain_pattern_is_refused(domain):
    with pytest.raises(ProtocolError, match=r"virtual_hosts\[0\].domains"):
        check_routes(hosts(a=[domain]))


def test_a_virtual_host_needs_a_domain():
    with pytest.raises(ProtocolError, match="needs a domain"):
        check_routes(hosts(a=[]))
