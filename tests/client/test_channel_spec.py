import json

import pytest

import trimtab
import trimtab.aio
from trimtab.client.channel_spec import ChannelSpec, options_for, target_of
from trimtab.client.watching import service_name
from trimtab.errors import ConfigError
from trimtab.model import Endpoint


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("10.0.0.1", "ipv4:10.0.0.1:80"),
        ("fd00::1", "ipv6:[fd00::1]:80"),
        ("pod.local", "dns:///pod.local:80"),
    ],
)
def test_an_endpoint_is_addressed_without_a_resolver_where_it_can_be(address, target):
    assert target_of(Endpoint(address, 80)) == target


def test_the_service_stays_the_authority_of_calls():
    assert dict(options_for("orders.shop:grpc", None))["grpc.default_authority"] == (
        "orders.shop:grpc"
    )


def test_each_endpoint_has_a_connection_of_its_own():
    assert dict(options_for("orders", None))["grpc.use_local_subchannel_pool"] == 1


def test_an_unanswered_ping_counts_as_soon_as_the_caller_wants_it():
    assert dict(options_for("orders", None))["grpc.http2.ping_timeout_ms"] == 5000
    given = [("grpc.keepalive_timeout_ms", 700)]
    assert dict(options_for("orders", given))["grpc.http2.ping_timeout_ms"] == 700


def test_quiet_calls_are_not_pinged_to_death():
    options = dict(options_for("orders", None))
    assert "grpc.http2.max_pings_without_data" not in options
    assert "grpc.keepalive_time_ms" not in options  # a quiet call would die of it after 3 minutes
    assert "grpc.keepalive_permit_without_calls" not in options


def test_what_the_caller_gives_wins():
    given = [("grpc.default_authority", "mine"), ("grpc.use_local_subchannel_pool", 0)]
    options = options_for("orders", given)
    assert dict(options)["grpc.default_authority"] == "mine"
    assert len({key for key, _ in options}) == len(options)


@pytest.mark.parametrize(
    "target", ["", "xds:///", "dns:///orders", "unix:/run/x", "xds://a/orders"]
)
def test_a_target_that_names_no_service_is_refused_with_an_example(target):
    with pytest.raises(ConfigError, match=r"use xds:///SERVICE.NAMESPACE:PORT"):
        service_name(target)


@pytest.mark.parametrize("make", [trimtab.insecure_channel, trimtab.aio.insecure_channel])
async def test_bad_arguments_are_refused_when_the_channel_is_made(make):
    for bad, text in (
        ({"endpoints": ["10.0.0.1"]}, "no port"),
        ({"endpoints": [], "policy": "nonsense"}, "policy 'nonsense' is unknown"),
        ({"endpoints": [], "policy": 5}, "policy=5 is neither a policy's name"),
        ({"endpoints": [], "bootstrap": {}}, "exclude each other"),
    ):
        with pytest.raises(ConfigError, match=text):
            make("orders", **bad)


def test_a_service_config_that_says_nothing_of_retries_leaves_them_to_the_caller():
    timeout = {"methodConfig": [{"name": [{"service": "Orders"}], "timeout": "2s"}]}
    options = [("grpc.service_config", json.dumps(timeout))]
    retry = trimtab.Retry(attempts=2)
    made = ChannelSpec.of(
        "orders", None, options, None, policy=None, endpoints=[], bootstrap=None, retry=retry
    )
    plan = made.plans.of("/Orders/Get")
    assert (plan.retry, plan.timeout_s) == (retry, 2.0)
