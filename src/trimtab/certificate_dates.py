"""From when until when certificates are good: read from DER (RFC 5280, 4.1), as the standard library can't."""

from __future__ import annotations

import datetime as dt
import re
import ssl

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _VERSION = 0x30, 0xA0
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_CENTURY_FROM = 50  # two-digit years from here on are 19xx


def validities(pem: bytes) -> list[tuple[dt.datetime, dt.datetime]]:
    """The begin and the end of validity of each certificate in a PEM text, in its order.

    Raises:
        ValueError: one is no certificate.
    """
    return [
        _validity(ssl.PEM_cert_to_DER_cert(found.group().decode("ascii", "replace")))
        for found in _CERTIFICATE.finditer(pem)
    ]


def _validity(der: bytes) -> tuple[dt.datetime, dt.datetime]:
    try:
        certificate, _ = _content(der, _SEQUENCE)
        fields, _ = _content(certificate, _SEQUENCE)
        if fields[0] == _VERSION:
            _, fields = _content(fields, _VERSION)
        for _ in ("serial number", "algorithm", "issuer"):
            _, fields = _content(fields, fields[0])
        begin, _ = _content(fields, _SEQUENCE)
        _, end = _content(begin, begin[0])
        return _time(begin), _time(end)
    except IndexError:
        raise ValueError("not a certificate: it ends too soon") from None


def _time(element: bytes) -> dt.datetime:
    text, _ = _content(element, element[0])
    if element[0] == _UTC_TIME:
        year = int(text[:2])
        text = (b"20" if year < _CENTURY_FROM else b"19") + text
    elif element[0] != _GENERALIZED_TIME:
        raise ValueError("not a certificate: its validity is no time")
    return dt.datetime.strptime(text.decode("ascii"), "%Y%m%d%H%M%SZ").replace(tzinfo=dt.UTC)


def _content(der: bytes, tag: int) -> tuple[bytes, bytes]:
    """The first element's content, and what comes after it."""
    if der[0] != tag:
        raise ValueError("not a certificate")
    size, begin = der[1], 2
    if size & 0x80:
        begin += size & 0x7F
        size = int.from_bytes(der[2:begin], "big")
    if len(der) < begin + size:
        raise ValueError("not a certificate: it ends too soon")
    return der[begin : begin + size], der[begin + size :]
