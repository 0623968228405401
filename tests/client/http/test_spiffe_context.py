"""Servers that are known by their SPIFFE ids, over HTTP; and what gRPC does with such servers."""

import ssl

import grpc
import pytest

import trimtab
from certificates import Authority
from doors.servers import Servers
from trimtab.client.spiffe_context import spiffe_context
from trimtab.errors import ConfigError

ORDERS = "spiffe://example.org/ns/shop/sa/orders"
URL = "https://orders.shop:8443/"


@pytest.fixture
def authority():
    return Authority()


@pytest.fixture
def files(authority, tmp_path):
    """The authority's file, and those of a server with this SPIFFE id or these names."""
    (tmp_path / "ca.pem").write_bytes(authority.pem)

    def make(**names):
        chain, key = authority.issue(**names)
        (tmp_path / "cert.pem").write_bytes(chain)
        (tmp_path / "key.pem").write_bytes(key)
        return str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")

    return tmp_path / "ca.pem", make


@pytest.mark.parametrize(
    "wanted", [[ORDERS], ["spiffe://other.org/x", ORDERS], ["spiffe://example.org/ns/shop/*"]]
)
async def test_a_server_with_the_wanted_id_is_called(wanted, door, servers, files):
    ca, make = files
    server = servers.open("a", certificate=make(spiffe=ORDERS))
    client = door(
        endpoints={"orders.shop:8443": [server.target]},
        verify=spiffe_context(ca, servers=wanted),
    )
    assert (await client.send("GET", URL)).seen["server"] == "a"


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ({"spiffe": "spiffe://example.org/ns/shop/sa/carts"}, "sa/carts; wanted is"),
        ({"spiffe": ORDERS + "2"}, "sa/orders2; wanted is"),
        ({"address": "127.0.0.1"}, "no URI name; wanted is"),
    ],
)
async def test_a_server_with_another_id_gets_no_request(names, shown, door, servers, files):
    ca, make = files
    server = servers.open("a", certificate=make(**names))
    client = door(
        endpoints={"orders.shop:8443": [server.target]},
        verify=spiffe_context(ca, servers=[ORDERS]),
    )
    with pytest.raises(client.errors, match=shown):
        await client.send("GET", URL)
    assert not server.served


async def test_the_id_alone_is_not_enough_without_the_authority_s_word(door, servers, files):
    ca, make = files
    server = servers.open("a", certificate=make(spiffe=ORDERS))
    ca.write_bytes(Authority("another").pem)
    client = door(
        endpoints={"orders.shop:8443": [server.target]},
        verify=spiffe_context(ca, servers=[ORDERS]),
    )
    with pytest.raises(client.errors, match=r"CERTIFICATE_VERIFY_FAILED|certificate verify failed"):
        await client.send("GET", URL)
    assert not server.served


@pytest.mark.parametrize(
    "wrong", [[], ["orders.shop"], ["spiffe://*"], ["spiffe://a/*/sa/b"], "https://example.org"]
)
def test_what_is_no_id_is_refused(wrong, files):
    ca, _ = files
    with pytest.raises(ConfigError, match="is no SPIFFE id such as"):
        spiffe_context(ca, servers=wrong)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"No such file.*ca\.pem"):
        spiffe_context(tmp_path / "ca.pem", servers=ORDERS)


def test_threads_and_loops_check_alike(files):
    ca, _ = files
    context = spiffe_context(ca, servers=[ORDERS])
    for made in (context.sslsocket_class, context.sslobject_class):
        assert made.do_handshake not in {ssl.SSLSocket.do_handshake, ssl.SSLObject.do_handshake}


# What docs/guides/security.md says of gRPC. When this fails, gRPC has learnt it: then use it.
@pytest.mark.parametrize("override", [None, ORDERS, "orders.shop"])
def test_grpc_s_own_client_can_not_be_told_which_spiffe_id_to_expect(override, echo, authority):
    chain, key = authority.issue(spiffe=ORDERS)
    made = Servers(echo)
    server = made.open("a", credentials=grpc.ssl_server_credentials([(key, chain)]))
    options = [] if override is None else [("grpc.ssl_target_name_override", override)]
    credentials = grpc.ssl_channel_credentials(authority.pem)
    try:
        with (
            trimtab.secure_channel(
                "orders.shop:80", credentials, options, endpoints=[server.target]
            ) as channel,
            pytest.raises(grpc.RpcError) as caught,
        ):
            channel.unary_unary("/x/Y")(b"", timeout=10)
    finally:
        made.close()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
