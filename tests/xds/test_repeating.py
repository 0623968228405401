"""What a Service declares safe to run more than once, as each kind of client is told."""

import pytest
from envoy.config.route.v3 import route_pb2
from google.protobuf import any_pb2, struct_pb2

from trimtab.errors import ProtocolError
from trimtab.model import Repeatable
from trimtab.xds.repeating import FIELD, read_fields
from trimtab.xds.resources import route_resource

METHODS = ("*", "/shop.Orders/", "/shop.Orders/Get", "GET")


def routes(repeatable):
    """The routes as the official messages have them: (path or prefix, retry policy or None)."""
    wrapped = any_pb2.Any.FromString(route_resource("r", "c", None, repeatable).body)
    (host,) = route_pb2.RouteConfiguration.FromString(wrapped.value).virtual_hosts
    return [
        (
            getattr(route.match, route.match.WhichOneof("path_specifier")),
            route.route.retry_policy if route.route.HasField("retry_policy") else None,
        )
        for route in host.routes
    ]


def test_one_method_is_a_route_before_the_default_one_which_retries_nothing():
    (path, policy), (rest, none) = routes(Repeatable(("/shop.Orders/Get",), attempts=3))
    assert (path, policy.retry_on, policy.num_retries.value) == (
        "/shop.Orders/Get",
        "unavailable",
        2,
    )
    assert (rest, none) == ("", None)


def test_the_closest_route_comes_first_and_http_methods_make_none():
    assert [path for path, _ in routes(Repeatable(METHODS))] == [
        "/shop.Orders/Get",
        "/shop.Orders/",
        "",
    ]


def test_everything_is_a_policy_of_the_default_route():
    ((path, policy),) = routes(Repeatable(("*",), ("INTERNAL", "UNAVAILABLE")))
    assert (path, policy.retry_on) == ("", "internal,unavailable")


def test_statuses_that_native_clients_do_not_know_are_left_out():
    ((_, policy),) = routes(Repeatable(("*",), ("ABORTED",)))
    assert policy is None


def test_without_a_word_nothing_is_retried():
    assert routes(None) == [("", None)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("methods", ""),
        ("methods", "GET,"),
        ("on", "OK"),
        ("on", "SOON"),
        ("on", ""),
        ("attempts", 1.0),
        ("attempts", 2.5),
        ("attempts", float("nan")),
        ("budget", -0.1),
        ("hedge_after_s", 1e9),
        ("hedge_quantile", 1.0),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(field, value):
    told = struct_pb2.Struct()
    told.update({FIELD: {"methods": "*", "on": "UNAVAILABLE", "attempts": 3.0, field: value}})
    with pytest.raises(ProtocolError, match=rf"{FIELD}\.{field}"):
        read_fields(told.fields)
