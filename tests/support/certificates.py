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


def _usage(*named):
    known = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
        "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{usage: usage in named for usage in known})


class Authority:
    """One certificate authority.

    Args:
        name: its common name.
        issuer: who vouches for it; None: itself.
        bare: neither key identifiers nor key usage, in any certificate, as EKS' of some years.

    Attributes:
        pem: its own certificate.
    """

    def __init__(self, name="test authority", *, issuer=None, bare=False):
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self._bare = bare
        issuer = issuer or self
        builder = issuer._builder(self._name, self._key.public_key())
        length = None if issuer is self else 0
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=length), True)
        if not bare:
            builder = builder.add_extension(_usage("key_cert_sign", "crl_sign"), True)
        self.pem = issuer._signed(builder)

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
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
        )
        if self._bare:
            return builder
        own = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        its = x509.SubjectKeyIdentifier.from_public_key(public_key)
        return builder.add_extension(own, False).add_extension(its, False)

    def _signed(self, builder):
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
