import json
import os

import pytest

from trimtab.client.bootstrap import Bootstrap, Credentials, Server, load
from trimtab.errors import ConfigError
from trimtab.model import Locality

FULL = {
    "xds_servers": [
        {
            "server_uri": "trimtab.example:18000",
            "channel_creds": [{"type": "google_default"}, {"type": "insecure"}],
            "server_features": ["xds_v3", "ignore_resource_deletion"],
            "a_field_of_the_future": {"x": 1},
        },
        {
            "server_uri": "dns:///second.example:443",
            "channel_creds": [
                {
                    "type": "tls",
                    "config": {
                        "ca_certificate_file": "/ca.pem",
                        "certificate_file": "/cert.pem",
                        "private_key_file": "/key.pem",
                        "refresh_interval": "600s",
                    },
                }
            ],
        },
    ],
    "node": {
        "id": "checkout-1",
        "cluster": "checkout",
        "locality": {"region": "eu", "zone": "eu-1"},
        "metadata": {"namespace": "shop", "nested": {"list": [1, None]}},
    },
    "certificate_providers": {"default": {"plugin_name": "file_watcher"}},
    "authorities": {"": {}},
}


def one(server="cp:1", node=None):
    creds = [{"type": "insecure"}]
    return {"xds_servers": [{"server_uri": server, "channel_creds": creds}], "node": node or {}}


def uris(bootstrap):
    return [server.uri for server in bootstrap.servers]


def test_the_standard_file_is_taken_unchanged_and_unknown_fields_are_ignored():
    bootstrap = load(FULL)
    assert bootstrap.servers == (
        Server(
            "trimtab.example:18000", Credentials(), features=("xds_v3", "ignore_resource_deletion")
        ),
        Server("dns:///second.example:443", Credentials("tls", "/ca.pem", "/cert.pem", "/key.pem")),
    )
    assert bootstrap.node.id == "checkout-1"
    assert bootstrap.node.cluster == "checkout"
    assert bootstrap.node.locality == Locality("eu", "eu-1")
    assert bootstrap.node.metadata == {"namespace": "shop", "nested": {"list": [1, None]}}


def test_an_argument_wins_over_the_environment_and_the_file_over_the_inline_text(tmp_path):
    file = tmp_path / "bootstrap.json"
    file.write_text(json.dumps(one("from-file:1")))
    env = {
        "GRPC_XDS_BOOTSTRAP": str(file),
        "GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(one("from-text:1")),
        "TRIMTAB_CONTROL_PLANE": "from-short:1",
    }
    assert uris(load(one("from-argument:1"), env)) == ["from-argument:1"]
    assert uris(load(json.dumps(one("from-argument:2")), env)) == ["from-argument:2"]
    assert uris(load(file, env)) == ["from-file:1"]
    assert uris(load(str(file), {})) == ["from-file:1"]
    ready = Bootstrap.of("ready:1")
    assert load(ready, env) is ready
    assert uris(load(None, env)) == ["from-file:1"]
    del env["GRPC_XDS_BOOTSTRAP"]
    assert uris(load(None, env)) == ["from-text:1"]
    del env["GRPC_XDS_BOOTSTRAP_CONFIG"]
    assert uris(load(None, env)) == ["from-short:1"]


def test_the_short_form_names_this_process_its_namespace_and_its_zone():
    env = {
        "TRIMTAB_CONTROL_PLANE": "a:18000, [::1]:18000",
        "POD_NAMESPACE": "shop",
        "TRIMTAB_ZONE": "eu-1",
    }
    bootstrap = load(None, env)
    assert uris(bootstrap) == ["a:18000", "[::1]:18000"]
    assert str(os.getpid()) in bootstrap.node.id
    assert bootstrap.node.metadata == {"namespace": "shop"}
    assert bootstrap.node.locality == Locality(zone="eu-1")
    assert load(None, env | {"TRIMTAB_NAMESPACE": "own"}).node.metadata == {"namespace": "own"}


def test_the_short_form_names_the_service_and_the_node_that_this_process_is_part_of():
    env = {"TRIMTAB_CONTROL_PLANE": "a:1", "TRIMTAB_SERVICE": "front.shop", "NODE_NAME": "n-7"}
    node = load(None, env).node
    assert (node.cluster, node.metadata) == ("front.shop", {"node_name": "n-7"})
    again = Bootstrap.of("a:1", service="front.shop", node_name="n-8").node
    assert (again.cluster, again.metadata) == ("front.shop", {"node_name": "n-8"})
    assert load(None, env | {"TRIMTAB_NODE_NAME": "n-9"}).node.metadata == {"node_name": "n-9"}


def test_the_short_form_speaks_tls_once_it_is_told_whom_to_trust_or_who_it_is():
    env = {"TRIMTAB_CONTROL_PLANE": "a:1,b:1"}
    (plain, _) = load(None, env).servers
    assert plain.credentials == Credentials("insecure")
    secure = load(None, env | {"TRIMTAB_CA": "/ca.pem", "TRIMTAB_TOKEN_FILE": "/token"})
    assert {s.credentials for s in secure.servers} == {
        Credentials("tls", ca_file="/ca.pem", token_file="/token")
    }
    (with_token, _) = load(None, env | {"TRIMTAB_TOKEN_FILE": "/token"}).servers
    assert with_token.credentials == Credentials("tls", token_file="/token")
    own = {"TRIMTAB_CERTIFICATE": "/c.pem", "TRIMTAB_KEY": "/k.pem"}
    (with_certificate, _) = load(None, env | own).servers
    assert with_certificate.credentials == Credentials("tls", "", "/c.pem", "/k.pem")
    with pytest.raises(ConfigError, match=r"TRIMTAB_KEY='': tls needs both"):
        load(None, env | {"TRIMTAB_CERTIFICATE": "/c.pem"})


def test_equal_bootstraps_are_equal_wherever_they_came_from(tmp_path):
    file = tmp_path / "bootstrap.json"
    file.write_text(json.dumps(FULL))
    assert load(FULL) == load(file)
    assert hash(load(FULL)) == hash(load(file))
    assert load(FULL) != load({**FULL, "node": {"id": "another"}})


@pytest.mark.parametrize(
    ("explicit", "said"),
    [
        ({}, ["argument bootstrap", "xds_servers", "{}"]),
        ({"xds_servers": []}, ["xds_servers is empty"]),
        ({"xds_servers": "cp:1"}, ["field xds_servers", '"cp:1"', "array"]),
        (one(5), ["field xds_servers[0].server_uri", "5", "str"]),
        (one(" "), ["field xds_servers[0].server_uri is empty", "host:port"]),
        (one(node={"locality": {"zone": 3}}), ["field node.locality.zone", "3"]),
        (
            {"xds_servers": [{"server_uri": "cp:1", "channel_creds": [{"type": "alts"}]}]},
            ["xds_servers[0].channel_creds", "alts", "insecure", "tls"],
        ),
        (
            {
                "xds_servers": [
                    {
                        "server_uri": "cp:1",
                        "channel_creds": [{"type": "tls", "config": {"certificate_file": "/c"}}],
                    }
                ]
            },
            ["certificate_file='/c'", "private_key_file=''", "together"],
        ),
        (
            one() | {"client_default_listener_resource_name_template": "xdstp://a/%s"},
            ["client_default_listener_resource_name_template", "xdstp://a/%s", "remove"],
        ),
        ("{not json", ["argument bootstrap", "JSON", "line 1"]),
        ("{" * 100_000, ["argument bootstrap", "JSON"]),
        ("/does/not/exist.json", ["/does/not/exist.json", "cannot be read"]),
    ],
)
def test_a_wrong_bootstrap_is_refused_with_origin_field_value_and_fix(explicit, said):
    with pytest.raises(ConfigError) as caught:
        load(explicit, {})
    for part in said:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "address", ["cp", "cp:", ":1", "cp:0", "cp:65536", "cp:x", "::1:18000", "a:1,", "cp:\u0661"]
)
def test_a_wrong_short_form_names_its_variable(address):
    with pytest.raises(ConfigError, match="TRIMTAB_CONTROL_PLANE"):
        load(None, {"TRIMTAB_CONTROL_PLANE": address})


def test_a_url_in_the_short_form_is_not_taken_for_an_ipv6_address():
    with pytest.raises(ConfigError, match="'http://plane:18000': write host:port alone"):
        load(None, {"TRIMTAB_CONTROL_PLANE": "http://plane:18000"})


def test_a_wrong_file_names_its_variable_and_path(tmp_path):
    file = tmp_path / "b.json"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=f"GRPC_XDS_BOOTSTRAP, file {file}"):
        load(None, {"GRPC_XDS_BOOTSTRAP": str(file)})


def test_without_any_bootstrap_the_error_says_how_to_give_one():
    with pytest.raises(ConfigError) as caught:
        load(None, {})
    for part in ("TRIMTAB_CONTROL_PLANE=host:port", "GRPC_XDS_BOOTSTRAP", "endpoints="):
        assert part in str(caught.value)


def test_no_address_is_refused():
    with pytest.raises(ConfigError, match="at least one host:port"):
        Bootstrap.of()


def test_an_argument_of_a_wrong_type_is_refused_with_what_fits():
    with pytest.raises(
        ConfigError, match="argument bootstrap: 5 is a value of type int; give a path"
    ):
        load(5)
