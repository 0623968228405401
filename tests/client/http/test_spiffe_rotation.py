"""The files of a SPIFFE context are replaced, as SPIRE does every half hour or so."""

import asyncio
import logging
import ssl
from contextlib import suppress

import pytest
from cryptography import x509

from certificates import Authority
from harness.waiting import eventually
from trimtab.client.spiffe_context import spiffe_context

ORDERS = "spiffe://example.org/ns/shop/sa/orders"
CARTS = "spiffe://example.org/ns/shop/sa/carts"
SOON = {"within": 15, "what": "the files' new content is used"}
STEPS = 20  # more than a handshake has


@pytest.fixture
def old():
    return Authority("old")


@pytest.fixture
def new():
    return Authority("new")


class Workload:
    """The files of a client, and a server that asks for its certificate."""

    def __init__(self, folder, *authorities):
        self.ca, self.certificate, self.key = (folder / n for n in ("ca.pem", "tls.pem", "tls.key"))
        self._folder = folder
        self.write(authorities[0])

    def write(self, authority):
        chain, key = authority.issue(spiffe=CARTS)
        self.ca.write_bytes(authority.pem)
        self.certificate.write_bytes(chain)
        self.key.write_bytes(key)
        self.serial = x509.load_pem_x509_certificate(chain).serial_number

    def context(self):
        return spiffe_context(self.ca, self.certificate, self.key, servers=[ORDERS])

    def server(self, authority, trusts=None, spiffe=ORDERS):
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for path, content in zip(("s.pem", "s.key"), authority.issue(spiffe=spiffe), strict=True):
            (self._folder / path).write_bytes(content)
        made.load_cert_chain(self._folder / "s.pem", self._folder / "s.key")
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(cadata=(trusts or authority).pem.decode())
        return made


@pytest.fixture
def workload(tmp_path, old):
    return Workload(tmp_path, old)


def handshake(client, server):
    """In memory; both ends."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(back, there, server_hostname="orders.shop"),
        server.wrap_bio(there, back, server_side=True),
    ]
    left = set(ends)
    for _ in range(STEPS):
        for end in ends:
            try:
                end.do_handshake()
                left.discard(end)
            except ssl.SSLWantReadError:
                pass
        if not left:
            return ends
    raise AssertionError("the handshake goes on for ever")


def serial(client, server):
    """Of the certificate that the client shows; 0: it trusts the server no more, or the server it."""
    try:
        _, theirs = handshake(client, server)
    except ssl.SSLError:
        return 0
    return int(theirs.getpeercert()["serialNumber"], 16)


def test_new_connections_show_the_new_certificate_and_trust_the_new_authority_alone(
    workload, old, new
):
    context, before = workload.context(), workload.server(old)
    assert serial(context, before) == workload.serial
    workload.write(new)
    after = workload.server(new)
    eventually(lambda: serial(context, after) == workload.serial, **SOON)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"self-signed|unable to get"):
        handshake(context, before)
    with pytest.raises(ssl.SSLCertVerificationError, match="sa/carts; wanted is"):
        handshake(context, workload.server(new, spiffe=CARTS))


def test_a_broken_file_leaves_the_last_good_ones_in_use_and_is_named(workload, old, caplog):
    context, server = workload.context(), workload.server(old)
    workload.key.write_bytes(b"half a k")
    with caplog.at_level(logging.ERROR, "trimtab.client"):
        eventually(
            lambda: serial(context, server) == workload.serial and caplog.records,
            **{**SOON, "what": "the broken file is noticed"},
        )
    assert str(workload.key) in caplog.text
    assert serial(context, server) == workload.serial


def test_what_was_set_on_the_context_holds_for_new_certificates(workload, new):
    context = workload.context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    context.set_alpn_protocols(["h2", "http/1.1"])
    workload.write(new)
    server = workload.server(new)
    server.set_alpn_protocols(["http/1.1"])
    eventually(lambda: serial(context, server) == workload.serial, **SOON)
    mine, _ = handshake(context, server)
    assert mine.cipher()[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"
    assert (mine.version(), mine.selected_alpn_protocol()) == ("TLSv1.2", "http/1.1")
    context.set_alpn_protocols(["h2"])
    mine, _ = handshake(context, server)
    assert mine.selected_alpn_protocol() is None


def test_security_level_and_later_authentication_hold_for_new_certificates(workload, new):
    context = workload.context()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.post_handshake_auth = True
    workload.write(new)
    server = workload.server(new)
    eventually(lambda: serial(context, server) == workload.serial, **SOON)
    mine, _ = handshake(context, server)
    assert (mine.context.security_level, mine.context.post_handshake_auth) == (0, True)


async def test_a_client_calls_a_server_of_the_new_authority_without_being_made_anew(
    door, servers, tmp_path, workload, old, new
):
    targets = {}
    for name, authority in (("old", old), ("new", new)):
        files = [str(tmp_path / f"{name}.{kind}") for kind in ("pem", "key")]
        for file, content in zip(files, authority.issue(spiffe=ORDERS), strict=True):
            (tmp_path / file).write_bytes(content)
        targets[name] = servers.open(name, certificate=tuple(files)).target
    client = door(
        endpoints={f"{name}.shop:8443": [target] for name, target in targets.items()},
        verify=workload.context(),
    )

    async def served_by(name):
        return (await client.send("GET", f"https://{name}.shop:8443/")).seen["server"]

    assert await served_by("old") == "old"
    with pytest.raises(client.errors):
        await served_by("new")
    workload.write(new)
    async with asyncio.timeout(15):
        answer = None
        while answer != "new":
            with suppress(client.errors):
                answer = await served_by("new")
