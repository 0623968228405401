"""A fixed list of endpoints as a snapshot: no control plane, no watching."""

from __future__ import annotations

from collections.abc import Iterable

from trimtab.errors import ConfigError
from trimtab.model import Endpoint, Snapshot


def snapshot_of(cluster: str, endpoints: Iterable[str | Endpoint]) -> Snapshot:
    """A snapshot from ``host:port``, ``[v6]:port`` or ``Endpoint`` items.

    Raises:
        ConfigError: an item is malformed or stands twice; the text names it and says what fits.
    """
    if isinstance(endpoints, str):
        raise ConfigError(
            f"endpoints: {endpoints!r} is one text; give a list, such as [{endpoints!r}]"
        )
    return Snapshot(
        cluster,
        tuple(e if isinstance(e, Endpoint) else _parse(i, e) for i, e in enumerate(endpoints)),
    )


def _parse(index: int, item: object) -> Endpoint:
    where = f"endpoints[{index}]: {item!r}"
    if not isinstance(item, str):
        raise ConfigError(f"{where} is neither text nor an Endpoint; give 'host:port'")
    host, colon, port = item.rpartition(":")
    if not colon or not host:
        raise ConfigError(f"{where} has no port; give 'host:port', such as '10.0.0.1:8080'")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f"{where} is an IPv6 address without brackets; give '[{host}]:{port}'")
    if not port.isascii() or not port.isdigit():
        raise ConfigError(f"{where}: port {port!r} is not a number; give 'host:port'")
    return Endpoint(host, int(port))
