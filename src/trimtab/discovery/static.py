"""A fixed list of endpoints as a snapshot: no control plane, no watching."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

from trimtab.errors import ConfigError
from trimtab.model import Endpoint, Snapshot

_MAX_PORT = 65535


def snapshot_of(cluster: str, endpoints: Iterable[str | Endpoint]) -> Snapshot:
    """A snapshot from ``host:port``, ``[v6]:port`` or ``Endpoint`` items; host names are allowed.

    Raises:
        ConfigError: an item is malformed or stands twice; the text names it and says what fits.
    """
    if isinstance(endpoints, str):
        raise ConfigError(
            f"endpoints: {endpoints!r} is one text; give a list, such as [{endpoints!r}]"
        )
    if isinstance(endpoints, Mapping) or not isinstance(endpoints, Iterable):
        raise ConfigError(f"endpoints: {endpoints!r} is no list; give one, such as ['host:8080']")
    return Snapshot(
        cluster,
        tuple(e if isinstance(e, Endpoint) else _parse(i, e) for i, e in enumerate(endpoints)),
    )


def _parse(index: int, item: object) -> Endpoint:
    where = f"endpoints[{index}]: {item!r}"
    if not isinstance(item, str):
        raise ConfigError(f"{where} is neither text nor an Endpoint; give 'host:port'")
    if "/" in item or item != "".join(item.split()):
        raise ConfigError(f"{where} is a URL or has spaces; give 'host:port' only")
    host, colon, port = item.rpartition(":")
    if not colon or not host or item.endswith("]"):
        raise ConfigError(f"{where} has no host or no port; give both, such as '10.0.0.1:8080'")
    if host.startswith("[") and host.endswith("]"):
        host = _ipv6(where, host[1:-1])
    elif ":" in host:
        raise ConfigError(f"{where} is an IPv6 address without brackets; give '[{host}]:{port}'")
    if not port.isascii() or not port.isdigit() or not 1 <= int(port[:6]) <= _MAX_PORT:
        raise ConfigError(f"{where}: port {port!r} is not a number from 1 to {_MAX_PORT}")
    return Endpoint(host, int(port))


def _ipv6(where: str, text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise ConfigError(f"{where}: {text!r} is no IPv6 address; brackets are for those") from None
