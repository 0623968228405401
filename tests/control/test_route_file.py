"""The route file of an edge: what it may say, and what is refused, with its place and the fix."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from harness.envoy import envoy_binary
from trimtab.control.bootstraps import Identity, edge_bootstrap
from trimtab.control.config import Address
from trimtab.control.edge.model import Edge, Fallback, Route
from trimtab.control.edge.route_file import load_edge
from trimtab.errors import ConfigError
from trimtab.xds import wire_pb2

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "envoy.md"
SERVER = Address("127.0.0.1", 18000)


def written(tmp_path, text):
    path = tmp_path / "routes.yaml"
    path.write_text(text)
    return path


def test_a_service_is_enough(tmp_path):
    edge = load_edge(written(tmp_path, "routes: [{service: 'orders.shop:8080'}]"))
    assert edge == Edge(
        (Address("0.0.0.0", 8080),),
        (Route("orders.shop:8080"),),
        Address("127.0.0.1", 9901),
    )


def test_everything_can_be_said(tmp_path):
    text = """
    listeners: ["127.0.0.1:80", "[::1]:80"]
    admin: 127.0.0.1:9000
    routes:
    - service: orders.shop:8080
      hosts: [Shop.Example.com, "*.example.org"]
      prefix: /orders
      timeout_s: 0
      idle_timeout_s: 7.5
      retries: 0
      hash_key: x-user
      fallback: {addresses: ["orders.example.net:443"], protocol: h2c}
    """
    assert load_edge(written(tmp_path, text)) == Edge(
        (Address("127.0.0.1", 80), Address("::1", 80)),
        (
            Route(
                "orders.shop:8080",
                ("shop.example.com", "*.example.org"),
                "/orders",
                0,
                7.5,
                0,
                "x-user",
                fallback=Fallback((Address("orders.example.net", 443),), http2=True),
            ),
        ),
        Address("127.0.0.1", 9000),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("routes: []", "routes"),
        ("", "routes"),
        ("routes: [{}]", "routes[0]"),
        ("routes: [{service: a, servce: c}]", "routes[0].servce: unknown field; known here"),
        ("routes: [{service: 'A B'}]", "routes[0].service: 'A B': name a Service port"),
        (
            "routes: [{service: 'a.b:grpc'}]",
            "'a.b:grpc': write SERVICE.NAMESPACE:PORT with the port",
        ),
        ("routes: [{service: a.b}]", "'a.b': write SERVICE.NAMESPACE:PORT"),
        ("routes: [{service: a, hosts: ['a:80']}]", "routes[0].hosts: 'a:80': write a host name"),
        ("routes: [{service: a, hosts: ['a.*']}]", "routes[0].hosts: 'a.*'"),
        ("routes: [{service: a, prefix: orders}]", "routes[0].prefix: 'orders'"),
        ("routes: [{service: a, timeout_s: -1}]", "routes[0].timeout_s: -1"),
        ("routes: [{service: a, idle_timeout_s: -1}]", "routes[0].idle_timeout_s: -1"),
        ("routes: [{service: a, retries: 99}]", "routes[0].retries: 99"),
        ("routes: [{service: a, hash_key: X User}]", "routes[0].hash_key: 'X User'"),
        ("routes: [{service: a, protocol: h2c}]", "appProtocol decides that"),
        ("routes: [{service: a, fallback: {addresses: []}}]", "routes[0].fallback.addresses"),
        ("routes: [{service: a, fallback: {addresses: [x]}}]", "'x' is not HOST:PORT"),
        ("routes: [{service: a, fallback: {addresses: ['x:0']}}]", "port 0 is nowhere"),
        ("routes: [{service: a, fallback: {address: 1}}]", "known here: addresses, protocol"),
        ("routes: [{service: a, protocol: h2}]", "routes[0].protocol: 'h2': is none of http1, h2c"),
        (
            "routes: [{service: a, fallback: {addresses: ['a:1'], protocol: h2}}]",
            "routes[0].fallback.protocol: 'h2': is none of http1, h2c",
        ),
        ("{routes: [{service: a}], listeners: ['a:1', 'a:1']}", "listeners: an address stands"),
        (
            "routes: [{service: a}, {service: c}]",
            "routes[1].prefix: '/': is never reached at *",
        ),
        (
            "routes: [{service: a, prefix: /x/}, {service: c, prefix: /x/y}]",
            "routes[1].prefix: '/x/y': is never reached",
        ),
        (
            """
            routes:
            - {service: a, prefix: /x, fallback: {addresses: ["h:1"]}}
            - {service: a, fallback: {addresses: ["h:2"]}}
            """,
            "routes[1].fallback: is another than that of routes[0]",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path, text, said):
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        load_edge(written(tmp_path, text))
    assert "routes.yaml: " in str(caught.value)


def test_two_protocols_of_one_service_are_refused(tmp_path):
    text = "routes: [{service: a, prefix: /x, protocol: h2c}, {service: a}]"
    with pytest.raises(ConfigError, match=re.escape("routes[1].protocol: is another")):
        load_edge(written(tmp_path, text), endpoints_only=True)


def test_endpoints_are_asked_for_by_any_name(tmp_path):
    path = written(tmp_path, "routes: [{service: 'orders.shop:grpc'}]")
    assert load_edge(path, endpoints_only=True).routes == (Route("orders.shop:grpc"),)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("timeout_s: 0", "0s"),
        ("timeout_s: 15", "300s"),
        ("timeout_s: 900", "900s"),
        ("timeout_s: 0, idle_timeout_s: 60", "60s"),
        ("timeout_s: 900, idle_timeout_s: 0", "0s"),
    ],
)
def test_a_request_may_be_silent_as_long_as_it_may_take_unless_the_route_says_otherwise(
    tmp_path, fields, said
):
    path = written(tmp_path, f"routes: [{{service: a, {fields}}}]")
    printed = edge_bootstrap(SERVER, Identity("n"), path, endpoints_only=False)
    (listener,) = yaml.safe_load(printed)["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    (host,) = manager["route_config"]["virtual_hosts"]
    assert {route["route"]["idle_timeout"] for route in host["routes"]} == {said}


def test_prefixes_that_only_look_alike_are_two_routes(tmp_path):
    text = "routes: [{service: a, prefix: /x}, {service: c, prefix: /xy}, {service: e}]"
    assert len(load_edge(written(tmp_path, text)).routes) == 3


@pytest.mark.parametrize("endpoints_only", [False, True])
def test_an_edge_checks_the_health_of_no_pod(tmp_path, endpoints_only):
    """Clusters that come later can't have it either: the wire schema has no such field."""
    text = "routes: [{service: 'a.shop:80', fallback: {addresses: ['a.example.net:80']}}]"
    path = written(tmp_path, text)
    printed = edge_bootstrap(SERVER, Identity("n"), path, endpoints_only=endpoints_only)
    assert "a.example.net" in printed
    assert "health_check" not in printed
    assert "health_checks" not in wire_pb2.Cluster.DESCRIPTOR.fields_by_name


@pytest.mark.parametrize("endpoints_only", [False, True])
def test_the_example_of_the_guide_is_taken_and_envoy_accepts_what_becomes_of_it(
    tmp_path, endpoints_only
):
    (example,) = re.findall(r"```yaml\n(# routes.yaml.*?)```", GUIDE.read_text(), re.DOTALL)
    path = written(tmp_path, example)
    printed = edge_bootstrap(SERVER, Identity("n"), path, endpoints_only=endpoints_only)
    clusters = yaml.safe_load(printed)["static_resources"]["clusters"]
    assert ("EDS" in {c.get("type") for c in clusters}) == endpoints_only
    config = tmp_path / "envoy.yaml"
    config.write_text(printed)
    found = subprocess.run(
        [envoy_binary(), "--mode", "validate", "-c", config],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 0, found.stderr
