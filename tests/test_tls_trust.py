"""Whom a TLS client of trimtab's own trusts: the same on every Python."""

import ssl

import pytest
from cryptography.x509 import DNSName

from certificates import Authority
from trimtab.tls_trust import trusting


def shake_hands(client, chain, key, folder):
    """Both sides in memory; raises what the client says of the server's certificate."""
    (folder / "server.pem").write_bytes(chain + key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.pem")
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = (
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    unfinished = True
    while unfinished:
        unfinished = False
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                unfinished = True


@pytest.mark.parametrize("bare", [False, True], ids=["RFC 5280", "no key identifiers"])
def test_a_certificate_of_the_authority_is_trusted_in_whatever_form_that_issues_it(bare, tmp_path):
    authority = Authority(bare=bare)
    shake_hands(trusting(cadata=authority.pem.decode()), *authority.issue(), tmp_path)


def test_an_authority_in_between_is_enough(tmp_path):
    middle = Authority("middle", issuer=Authority("root"))
    shake_hands(trusting(cadata=middle.pem.decode()), *middle.issue(), tmp_path)


def test_an_authority_may_be_in_a_file(tmp_path):
    authority = Authority()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    shake_hands(trusting(cafile=tmp_path / "ca.pem"), *authority.issue(), tmp_path)


@pytest.mark.parametrize("bare", [False, True], ids=["RFC 5280", "no key identifiers"])
def test_a_certificate_of_another_authority_of_the_same_name_is_refused(bare, tmp_path):
    trust = trusting(cadata=Authority(bare=bare).pem.decode())
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(trust, *Authority(bare=bare).issue(), tmp_path)


def test_a_certificate_for_another_name_is_refused(tmp_path):
    authority = Authority()
    chain = authority.issue(names=[DNSName("elsewhere")])
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(trusting(cadata=authority.pem.decode()), *chain, tmp_path)
