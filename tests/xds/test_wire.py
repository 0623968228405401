"""Our schema is the part of xDS that it claims to be. Oracle: the official messages."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from envoy.admin.v3 import config_dump_shared_pb2
from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2, outlier_detection_pb2
from envoy.config.core.v3 import (
    address_pb2,
    base_pb2,
    config_source_pb2,
    extension_pb2,
    grpc_service_pb2,
    health_check_pb2,
    protocol_pb2,
)
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2, load_report_pb2
from envoy.config.listener.v3 import api_listener_pb2, listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3 import (
    client_side_weighted_round_robin_pb2,
)
from envoy.extensions.load_balancing_policies.common.v3 import common_pb2
from envoy.extensions.load_balancing_policies.least_request.v3 import least_request_pb2
from envoy.extensions.load_balancing_policies.maglev.v3 import maglev_pb2
from envoy.extensions.load_balancing_policies.random.v3 import random_pb2
from envoy.extensions.load_balancing_policies.ring_hash.v3 import ring_hash_pb2
from envoy.extensions.load_balancing_policies.round_robin.v3 import round_robin_pb2
from envoy.extensions.load_balancing_policies.wrr_locality.v3 import wrr_locality_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from envoy.service.discovery.v3 import discovery_pb2
from envoy.service.load_stats.v3 import lrs_pb2
from envoy.service.status.v3 import csds_pb2
from envoy.type.matcher.v3 import node_pb2, string_pb2
from envoy.type.v3 import percent_pb2
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.rpc import status_pb2
from xds.data.orca.v3 import orca_load_report_pb2
from xds.service.orca.v3 import orca_pb2
from xds.type.v3 import typed_struct_pb2

from trimtab.xds import type_urls
from trimtab.xds import wire_pb2 as wire

ROOT = Path(__file__).parents[2]
MODULES = [
    cluster_pb2,
    circuit_breaker_pb2,
    outlier_detection_pb2,
    address_pb2,
    base_pb2,
    config_source_pb2,
    extension_pb2,
    grpc_service_pb2,
    protocol_pb2,
    endpoint_components_pb2,
    endpoint_pb2,
    api_listener_pb2,
    listener_pb2,
    route_components_pb2,
    route_pb2,
    router_pb2,
    hcm_pb2,
    client_side_weighted_round_robin_pb2,
    common_pb2,
    least_request_pb2,
    maglev_pb2,
    ring_hash_pb2,
    random_pb2,
    round_robin_pb2,
    wrr_locality_pb2,
    http_protocol_options_pb2,
    discovery_pb2,
    load_report_pb2,
    lrs_pb2,
    csds_pb2,
    config_dump_shared_pb2,
    node_pb2,
    string_pb2,
    percent_pb2,
    status_pb2,
    orca_load_report_pb2,
    orca_pb2,
    typed_struct_pb2,
]
# Two official messages are called HttpProtocolOptions; a Cluster carries the one of `upstreams`.
CHOSEN = {
    "HttpProtocolOptions": http_protocol_options_pb2.HttpProtocolOptions.DESCRIPTOR,
    "RetryPolicy": route_components_pb2.RetryPolicy.DESCRIPTOR,
}


def official(name):
    if name in CHOSEN:
        return CHOSEN[name]
    found = [
        m.DESCRIPTOR.message_types_by_name[name]
        for m in MODULES
        if name in m.DESCRIPTOR.message_types_by_name
    ]
    assert len(found) == 1, f"{name}: {[d.full_name for d in found]}"
    return found[0]


def differences(ours, theirs):
    for field in ours.fields:
        other = theirs.fields_by_number.get(field.number)
        where = f"{ours.full_name}.{field.name}"
        if other is None:
            yield f"{where}: {theirs.full_name} has no field {field.number}"
            continue
        if other.name != field.name or other.is_repeated != field.is_repeated:
            yield f"{where}: is {other.full_name} there"
        as_bytes = (
            field.type == FieldDescriptor.TYPE_BYTES and other.type == FieldDescriptor.TYPE_MESSAGE
        )
        if field.type != other.type and not as_bytes:
            yield f"{where}: is of type {other.type} there"
        if field.enum_type and field.enum_type.values_by_name.keys() != (
            other.enum_type.values_by_name.keys()
        ):
            yield f"{where}: the enum has other values"
        if field.message_type and not field.message_type.GetOptions().map_entry:
            mine, their = field.message_type, other.message_type
            if mine.containing_type is ours:
                yield from differences(mine, their)
            elif mine.name != their.name:
                yield f"{where}: is a {their.full_name} there"


@pytest.mark.parametrize("name", sorted(wire.DESCRIPTOR.message_types_by_name))
def test_each_message_has_the_official_numbers_names_and_types(name):
    assert list(differences(wire.DESCRIPTOR.message_types_by_name[name], official(name))) == []


def test_the_health_states_are_the_official_ones():
    ours = dict(wire.LbEndpoint.HealthStatus.items())
    assert ours == dict(health_check_pb2.HealthStatus.items())


def test_each_type_url_names_an_official_message():
    known = {d.full_name for m in MODULES for d in m.DESCRIPTOR.message_types_by_name.values()}
    for constant, value in vars(type_urls).items():
        if isinstance(value, str) and value.startswith("type.googleapis.com/"):
            name = value.removeprefix("type.googleapis.com/")
            if name and constant != "POLICY":
                assert name in known, constant


def test_the_generated_module_belongs_to_the_schema(tmp_path):
    out = tmp_path / "wire.pb"
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", "-I", ROOT / "src"),
            *("--descriptor_set_out", out, ROOT / "src/trimtab/xds/wire.proto"),
        ],
        check=True,
        timeout=60,
    )
    (compiled,) = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
    generated = descriptor_pb2.FileDescriptorProto.FromString(wire.DESCRIPTOR.serialized_pb)
    for message in (compiled, generated):
        _drop_json_names(message)
    assert generated == compiled, "run make proto"


def _drop_json_names(message):
    for kind in [*message.message_type]:
        _drop_in_message(kind)


def _drop_in_message(kind):
    for field in kind.field:
        field.ClearField("json_name")
    for nested in kind.nested_type:
        _drop_in_message(nested)


def test_the_generated_module_runs_on_the_oldest_protobuf_that_we_allow():
    text = Path(importlib.import_module("trimtab.xds.wire_pb2").__file__).read_text()
    generated = re.search(r"Protobuf Python Version: (\S+)", text)[1]
    allowed = re.search(r'"protobuf>=([\d.]+)', (ROOT / "pyproject.toml").read_text())[1]
    assert generated == allowed
