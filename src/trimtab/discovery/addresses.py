"""Which addresses of a slice may be endpoints, and how they are written. Pure.

Whoever may write an EndpointSlice could otherwise point clients at the metadata service of a cloud
or at the client's own machine.
"""

from __future__ import annotations

import ipaddress
import re

FAMILIES = {"IPv4": 4, "IPv6": 6}

# Most addresses: IPv4, in canonical form, of no network that is refused for its first number.
_ORDINARY = re.compile(
    r"(?!127\.|169\.)(?:[1-9]|[1-9]\d|1\d\d|2[01]\d|22[0-3])"
    r"(?:\.(?:\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])){3}",
    re.ASCII,
)


def endpoint_address(text: str, family: int, *, allow_loopback: bool = False) -> str:
    """The address in canonical form; an IPv4-mapped IPv6 address as IPv4.

    Args:
        text: an IP literal.
        family: 4 or 6, what the slice says its addresses are.
        allow_loopback: for local development.

    Raises:
        ValueError: it is no address, or none that clients may be sent to; the text says what to do.
    """
    if family == 4 and _ORDINARY.fullmatch(text):  # noqa: PLR2004 - IPv4
        return text
    return _checked(text, family, allow_loopback=allow_loopback)


def _checked(text: str, family: int, *, allow_loopback: bool) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError("this is no IP address; give the pod's own address") from None
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None:
        address = mapped
    elif address.version != family:
        raise ValueError(f"this is IPv{address.version} and the slice says IPv{family}")
    if getattr(address, "scope_id", None):
        raise ValueError("an address with a scope means something on one machine only")
    for refused, kind in (
        (address.is_loopback and not allow_loopback, "loopback"),
        (address.is_link_local, "link-local"),
        (address.is_multicast, "multicast"),
        (address.is_unspecified, "unspecified"),
        (str(address) == "255.255.255.255", "broadcast"),
    ):
        if refused:
            raise ValueError(f"a {kind} address is refused; give the pod's own address")
    return str(address)
