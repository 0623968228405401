"""An authority that issues certificates with SPIFFE ids, which trustme can't."""

import datetime as dt
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def _name(text):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


class Authority:
    """One certificate authority.

    Attributes:
        pem: its own certificate.
    """

    def __init__(self, name="test authority"):
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        builder = self._builder(self._name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        self.pem = self._signed(builder)

    def issue(self, *, spiffe=None, name="leaf", address="127.0.0.1", names=(), valid=None):
        """A chain and its key, for an address and localhost, for a SPIFFE id, or for these names.

        ``valid``: from when until when; None: for an hour.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        if spiffe:
            names = [x509.UniformResourceIdentifier(spiffe)]
        names = names or [
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address(address)),
        ]
        builder = self._builder(_name(name), key.public_key(), valid=valid)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        return self._signed(builder), _pem(key)

    def expired(self, key):
        """A chain for a key (PEM) and 127.0.0.1 that was good until an hour ago."""
        public = serialization.load_pem_private_key(key, None).public_key()
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = self._builder(_name("leaf"), public, ago=dt.timedelta(hours=2))
        return self._signed(builder.add_extension(x509.SubjectAlternativeName(names), False))

    def _builder(self, subject, public_key, ago=dt.timedelta(), valid=None):
        now = dt.datetime.now(dt.UTC) - ago
        begin, end = valid or (now - dt.timedelta(minutes=5), now + dt.timedelta(hours=1))
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
        )

    def _signed(self, builder):
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
