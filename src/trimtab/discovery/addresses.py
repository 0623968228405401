"""Which addresses of a slice may be endpoints, and how they are written. Pure.

Whoever may write an EndpointSlice could otherwise point clients at the metadata service of a cloud
or at the client's own machine.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

FAMILIES = {"IPv4": 4, "IPv6": 6}

# Most addresses: IPv4, in canonical form, of no network that is refused for its first number.
_ORDINARY = re.compile(
    r"(?!127\.|169\.)(?:[1-9]|[1-9]\d|1\d\d|2[01]\d|22[0-3])"
    r"(?:\.(?:\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])){3}",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class AddressRules:
    """What may be an endpoint, besides what never may.

    Attributes:
        allow_loopback: 127.0.0.0/8 and ::1, for local development.
        ranges: nothing outside of these; empty: no such limit. A range within loopback allows that
            part of it.
        api_server: address and port of the API server that is read: only the Service
            ``default/kubernetes`` may have it as an endpoint.
    """

    allow_loopback: bool = False
    ranges: tuple[Network, ...] = ()
    api_server: tuple[str, int] | None = None


NO_RULES = AddressRules()


def endpoint_range(text: str) -> Network:
    """Read a range such as ``10.0.0.0/8``.

    Raises:
        ValueError: it is none; the text says what to do.
    """
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(
            f"{text!r} is no range of addresses ({error}); give 10.0.0.0/8 or fd00::/8"
        ) from None


def endpoint_address(text: str, family: int, rules: AddressRules = NO_RULES) -> str:
    """The address in canonical form; an IPv4-mapped IPv6 address as IPv4.

    Args:
        text: an IP literal.
        family: 4 or 6, what the slice says its addresses are.
        rules: see there.

    Raises:
        ValueError: it is no address, or none that clients may be sent to; the text says what to do.
    """
    if not rules.ranges and family == 4 and _ORDINARY.fullmatch(text):  # noqa: PLR2004 - IPv4
        return text
    return _checked(text, family, rules)


def _checked(text: str, family: int, rules: AddressRules) -> str:
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
    within = [network for network in rules.ranges if address in network]
    loopback = rules.allow_loopback or any(network.is_loopback for network in within)
    for refused, kind in (
        (address.is_loopback and not loopback, "loopback"),
        (address.is_link_local, "link-local"),
        (address.is_multicast, "multicast"),
        (address.is_unspecified, "unspecified"),
        (str(address) == "255.255.255.255", "broadcast"),
    ):
        if refused:
            raise ValueError(f"a {kind} address is refused; give the pod's own address")
    if rules.ranges and not within:
        ranges = ", ".join(map(str, rules.ranges))
        raise ValueError(f"it is in none of the ranges that --endpoint-range allows: {ranges}")
    return str(address)
