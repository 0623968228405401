"""Which clients of other languages can be known by a token (docs/guides/security.md has the table)."""

import subprocess

import pytest
import test_java
import test_node

from harness import go_client
from harness.client import Client, Road
from harness.with_tokens import SWITCH, bootstrap_with_token

pytestmark = pytest.mark.processes

ORDERS = Road("xds:///orders.shop:8080")


@pytest.fixture
def environment(addresses, orders, manifests, started, tmp_path):
    """Of a client that the control plane knows."""
    assert orders
    printed = bootstrap_with_token(addresses, manifests, started, tmp_path)
    return {"GRPC_XDS_BOOTSTRAP_CONFIG": printed}


def test_go_sends_its_token_once_its_switch_for_that_is_on(environment, started):
    client = started(Client("go", [go_client.PROGRAM], env=environment | SWITCH))
    with client.load({"client": ORDERS}, rate=50) as load:
        load.comes_from("a", "b")


def test_go_without_the_switch_says_what_is_missing(environment, started):
    client = started(Client("go", [go_client.PROGRAM], env=environment))
    assert "a token is needed" in client.call(ORDERS).error


def test_java_trusts_the_jvm_s_store_and_sends_no_token(environment, started, tmp_path):
    store = tmp_path / "store.p12"
    imported = [
        "keytool",
        "-importcert",
        "-noprompt",
        "-alias",
        "trimtab",
        "-storepass",
        "changeit",
    ]
    imported += ["-file", tmp_path / "ca.crt", "-keystore", store]
    subprocess.run(imported, check=True, capture_output=True, timeout=60)
    command = test_java.command("grpc")
    properties = {"trustStore": store, "trustStorePassword": "changeit"}
    command[1:1] = [f"-Djavax.net.ssl.{name}={value}" for name, value in properties.items()]
    client = started(Client("java", command, env=environment | SWITCH))
    assert "a token is needed" in client.call(ORDERS).error


def test_node_knows_no_tls_in_its_bootstrap(environment, started):
    client = Client("node", ["node", "client.mjs"], cwd=test_node.FOLDER, env=environment)
    assert "xDS name resolution failed" in started(client).call(ORDERS).error
