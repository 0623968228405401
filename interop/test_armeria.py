"""Armeria's xDS client (``com.linecorp.armeria:armeria-xds``) against ``trimtab serve``."""

import json

import pytest
from test_java import command
from xds_client_contract import (  # noqa: F401 - the tests that it can pass
    ORDERS,
    test_a_control_plane_that_goes_and_comes_costs_no_request,
    test_a_service_answers_to_all_its_names,
    test_changes_are_followed_under_load_without_an_error,
    test_every_configuration_is_accepted_and_every_endpoint_gets_requests,
    test_everything_that_is_sent_is_accepted,
)

from harness.client import Client

pytestmark = pytest.mark.processes


ADS = {"ads": {}, "resource_api_version": "V3"}
HTTP2 = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def bootstrap(address, *, aggregated=True):
    """Envoy's bootstrap, as far as Armeria reads it; over ADS, or over a stream for each type."""
    host, port = address.split(":")
    endpoint = {"address": {"socket_address": {"address": host, "port_value": int(port)}}}
    options = {"@type": HTTP2, "explicit_http_config": {"http2_protocol_options": {}}}
    plane = {
        "name": "trimtab",
        "type": "STATIC",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
        },
        "load_assignment": {
            "cluster_name": "trimtab",
            "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
        },
    }
    source = {
        "api_type": "GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "trimtab"}}],
    }
    own = {"resource_api_version": "V3", "api_config_source": source}
    dynamic = {"lds_config": own, "cds_config": own}
    if aggregated:
        dynamic = {"lds_config": ADS, "cds_config": ADS, "ads_config": source}
    metadata = {"namespace": "shop", "trimtab.dev/eds-cluster": "trimtab"}
    return {
        "node": {"id": "armeria", "cluster": "tests", "metadata": metadata},
        "dynamic_resources": dynamic,
        "static_resources": {"clusters": [plane]},
    }


def started_client(started, document):
    environment = {"ENVOY_BOOTSTRAP": json.dumps(document)}
    return started(Client("armeria", command("armeria"), env=environment))


@pytest.fixture
def client(control_plane, started):
    """An Armeria client."""
    return started_client(started, bootstrap(control_plane.address))


def test_changes_are_followed_without_ads(control_plane, started, orders, backends, manifests):
    client = started_client(started, bootstrap(control_plane.address, aggregated=False))
    test_changes_are_followed_under_load_without_an_error(client, orders, backends, manifests)
    assert sorted(c["service"] for c in control_plane.clients()) == ["cds", "eds", "lds"]
