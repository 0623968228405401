import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.model import ServicePort
from trimtab.xds.names import Alias, NameTable

ORDERS = ServicePort("orders", "shop", 8080, "grpc")
METRICS = ServicePort("orders", "shop", 9090, "metrics")
MAIL = ServicePort("mail", "office", 25, "")
RATELIMIT = ServicePort("ratelimit-headless", "ratelimit", 1081, "")


def table(*ports, aliases=()):
    made = NameTable(aliases)
    for port in ports:
        made.add(port)
    return made


@pytest.mark.parametrize(
    "name",
    [
        "orders.shop:8080",
        "orders.shop:grpc",
        "orders.shop",
        "orders.shop.svc:8080",
        "orders.shop.svc.cluster.local:8080",
        "orders.shop.svc.cluster.local:grpc",
        "orders.shop.svc.cluster.local",
        "orders.shop.svc.corp.internal",
    ],
)
def test_a_cluster_answers_to_all_its_names(name):
    assert table(ORDERS, METRICS, MAIL).resolve(name) == "orders.shop:8080"


@pytest.mark.parametrize("name", ["orders", "orders:8080", "orders:grpc"])
def test_a_short_name_belongs_to_the_clients_namespace(name):
    known = table(ORDERS, ServicePort("orders", "other", 8080, "grpc"))
    assert known.resolve(name, "shop") == "orders.shop:8080"
    assert known.resolve(name, "other") == "orders.other:8080"
    assert known.resolve(name, "third") is None
    assert known.resolve(name) is None


@pytest.mark.parametrize(
    "name",
    ["", "orders.shop:1", "orders.shop:http", "orders.shop.pod.cluster.local", "orders.", ":8080"],
)
def test_other_names_mean_nothing(name):
    assert table(ORDERS, METRICS).resolve(name) is None


def test_the_default_port_is_the_only_one_else_grpc_else_http():
    http = ServicePort("orders", "shop", 80, "http")
    assert table(METRICS).resolve("orders.shop") == METRICS.cluster
    assert table(METRICS, http, ORDERS).resolve("orders.shop") == ORDERS.cluster
    assert table(METRICS, http).resolve("orders.shop") == http.cluster
    assert table(METRICS, ServicePort("orders", "shop", 1, "x")).resolve("orders.shop") is None


def test_a_configured_name_answers_for_its_port_and_wins():
    alias = Alias("ratelimit-eds", "ratelimit", "ratelimit-headless", 1081)
    hijack = Alias("mail.office:25", "shop", "orders", "grpc")
    known = table(ORDERS, MAIL, RATELIMIT, aliases=[alias, hijack])

    assert known.resolve("ratelimit-eds") == RATELIMIT.cluster
    assert known.resolve("mail.office:25") == ORDERS.cluster
    assert known.names_of(RATELIMIT.cluster) == (RATELIMIT.cluster, "ratelimit-eds")


def test_a_configured_name_whose_service_is_away_says_so():
    alias = Alias("ratelimit-eds", "ratelimit", "ratelimit-headless", 1081)
    text = table(aliases=[alias]).missing_text("ratelimit-eds")
    assert "port 1081 of Service ratelimit/ratelimit-headless, which does not exist" in text


def test_a_removed_cluster_loses_all_its_names():
    known = table(ORDERS, METRICS)
    known.remove(ORDERS.cluster)
    assert known.resolve("orders.shop:grpc") is None
    assert known.resolve("orders.shop") == METRICS.cluster
    known.remove(METRICS.cluster)
    known.remove("never.known:1")
    assert known.resolve("orders.shop") is None


def test_a_renamed_port_answers_to_its_new_name_only():
    known = table(ORDERS)
    known.add(ServicePort("orders", "shop", 8080, "web"))
    assert known.resolve("orders.shop:web") == ORDERS.cluster
    assert known.resolve("orders.shop:grpc") is None


def test_a_cluster_without_a_service_answers_to_its_exact_name():
    known = NameTable()
    known.add_cluster("static")
    assert known.resolve("static") == "static"
    assert known.resolve("static:1") is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("order.shop:8080", "orders.shop:8080"),
        ("orders.shop:8081", "orders.shop:8080"),
        ("orders.shop:http", "orders.shop:8080"),
        ("orders.shpo:8080", "orders.shop:8080"),
        ("mial.office:25", "mail.office:25"),
    ],
)
def test_near_names_are_found(name, expected):
    assert table(ORDERS, MAIL).near(name)[0] == expected


def test_the_text_for_a_wrong_port_lists_the_ports():
    text = table(ORDERS, METRICS).missing_text("orders.shop:http")
    assert "Service shop/orders has port 8080 (grpc), 9090 (metrics)" in text


def test_the_text_for_a_name_without_a_namespace_says_so():
    assert "namespace is not known" in table(ORDERS).missing_text("orders")


LABEL = st.text("abc-0", min_size=1, max_size=6)
PORTS = st.builds(
    ServicePort, LABEL, LABEL, st.integers(1, 65535), st.sampled_from(["", "grpc", "http", "x"])
)


@given(st.lists(PORTS, max_size=8), st.data())
def test_whatever_resolves_is_known_and_canonical_names_always_resolve(ports, data):
    known = table(*ports)
    clusters = {p.cluster for p in ports}
    gone = data.draw(st.sets(st.sampled_from(sorted(clusters)))) if clusters else set()
    for cluster in gone:
        known.remove(cluster)
    left = clusters - gone
    for cluster in clusters:
        assert known.resolve(cluster) == (cluster if cluster in left else None)
    asked = data.draw(st.one_of(st.text("abc-0.:grpchtx", max_size=20), st.text(max_size=10)))
    assert known.resolve(asked, "abc") in {*left, None}
    assert set(known.near(asked)) <= left
    assert asked in known.missing_text(asked, "abc")
