import re
from pathlib import Path

import pytest

from trimtab.control.config import (
    MAX_CONFIG_BYTES,
    Address,
    Config,
    load_config,
    parse_address,
    refuse_open,
)
from trimtab.errors import ConfigError
from trimtab.xds.names import Alias

GOOD = """
clusters:
- {name: ratelimit-eds, namespace: ratelimit, service: ratelimit-headless, port: 1081}
- {name: orders, namespace: shop, service: orders, port: grpc}
admin_hosts: [trimtab.example]
"""


def refused(tmp_path, text):
    path = tmp_path / "trimtab.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert str(error.value).startswith(str(path))
    return str(error.value).removeprefix(str(path))


def test_aliases_are_read_with_port_numbers_and_port_names(tmp_path):
    path = tmp_path / "trimtab.yaml"
    path.write_text(GOOD)
    config = load_config(path)
    assert config.admin_hosts == ("trimtab.example",)
    assert config.aliases() == (
        Alias("ratelimit-eds", "ratelimit", "ratelimit-headless", 1081),
        Alias("orders", "shop", "orders", "grpc"),
    )


def test_the_page_lists_every_section_and_its_example_is_taken(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "reference" / "configuration.md").read_text()
    sections = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert sections == [*Config.__struct_fields__]
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert re.findall(r"^(\w+):", example, re.MULTILINE) == sections
    path = tmp_path / "trimtab.yaml"
    path.write_text(example)
    assert load_config(path) != Config()


def test_an_empty_file_configures_nothing(tmp_path):
    path = tmp_path / "trimtab.yaml"
    path.write_text("# nothing yet\n")
    assert load_config(path) == Config()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clustres: []", ": clustres: unknown field; known here: clusters, admin_hosts"),
        (
            "clusters: [{name: a, namespace: b, service: c, port: 1, weight: 2}]",
            ": clusters[0].weight: unknown field; known here: name, namespace, service, port",
        ),
        (
            "clusters: [{name: a, namespace: b, service: c, port: 70000}]",
            ": clusters[0].port: 70000: expected a whole number <= 65535",
        ),
        (
            "clusters: [{name: a, namespace: b, service: c, port: 0}]",
            ": clusters[0].port: 0: expected a whole number >= 1",
        ),
        (
            "clusters: [{name: '', namespace: b, service: c, port: 1}]",
            ": clusters[0].name: '': expected text of length >= 1",
        ),
        (
            "clusters: [{name: a, service: c, port: 1}]",
            ": clusters[0]: object missing required field `namespace`",
        ),
        ("clusters: 3", ": clusters: 3: expected a list, got a whole number"),
        ("- 1", ": the file: expected a mapping, got a list"),
        ("clusters: [\n", ":2: is not valid YAML: "),
        ("clusters: []\nclusters: []\n", ":2: is not valid YAML: 'clusters' stands twice"),
        ("a: &x []\nb: *x\n", ":2: is not valid YAML: aliases (*name) are not allowed"),
        ("!!python/object/apply:os.getcwd []", ":1: is not valid YAML: "),
        (
            '{"clusters": ['
            + ", ".join([f'{{"name":"a","namespace":"b","service":"{s}","port":1}}' for s in "cd"])
            + "]}",
            ": clusters[1].name: 'a' is already the name of clusters[0]; names are unique",
        ),
        (b"\xff\xfe", ": byte 0 is not UTF-8; save it as UTF-8"),
        ("#" * (MAX_CONFIG_BYTES + 1), ": is larger than 1048576 bytes; is it the right file?"),
        ("[" * 100_000, ": is not valid YAML: "),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_field_value_and_fix(tmp_path, text, message):
    assert refused(tmp_path, text).startswith(message)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere.yaml: cannot be read: No such file"):
        load_config(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:18000", Address("127.0.0.1", 18000)),
        ("[::1]:0", Address("::1", 0)),
        ("localhost:1", Address("localhost", 1)),
        (":18000", Address("0.0.0.0", 18000)),
    ],
)
def test_addresses_are_host_and_port(text, address):
    assert parse_address(text) == address


def test_where_one_listens_no_host_is_every_interface_and_not_loopback():
    address = parse_address(":18000", every="")
    assert address == Address("", 18000)
    assert str(address) == ":18000"
    assert not address.is_loopback


@pytest.mark.parametrize(
    "text", ["", "18000", "127.0.0.1", "127.0.0.1:", "a:b", "a:65536", "::1:5"]
)
def test_a_wrong_address_is_refused_with_its_value_and_an_example(text):
    with pytest.raises(
        ConfigError, match=r"'.*' is not HOST:PORT; for example|'.*': put .* in brackets"
    ):
        parse_address(text)


@pytest.mark.parametrize("text", ["http://plane:18000", "dns:///plane:18000", "a:1,b:2", "a b:1"])
def test_what_is_no_host_is_not_taken_for_an_ipv6_address(text):
    with pytest.raises(ConfigError, match=r"'.*' is not HOST:PORT; for example"):
        parse_address(text)


def test_a_word_that_is_none_of_the_known_ones_is_refused_with_these(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("authorization: {default: mine}")
    with pytest.raises(ConfigError, match=r"authorization.default: 'mine': is none of own, all$"):
        load_config(path)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_permission(host):
    refuse_open(Address(host, 1), flag="--xds", insecure=False, fix="Give TLS")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com"])
def test_plaintext_beyond_loopback_is_refused_unless_wished_and_says_what_to_do(host):
    with pytest.raises(ConfigError, match=r"Give TLS.*--insecure"):
        refuse_open(Address(host, 1), flag="--admin", fix="Give TLS", insecure=False)
    refuse_open(Address(host, 1), flag="--admin", fix="Give TLS", insecure=True)
