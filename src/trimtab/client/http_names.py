"""Which URLs name a cluster. Decided without asking anybody: a foreign host must not wait."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from trimtab.client.channel_spec import Endpoints
from trimtab.discovery.static import snapshot_of
from trimtab.errors import ConfigError

T = TypeVar("T")

XDS = "xds"
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class HttpNames:
    """The hosts that a caller named.

    Args:
        hosts: ``orders.shop:8080``, ``orders.shop`` (all ports) or ``*.shop`` (all below it).
        endpoints: fixed lists by name, ``orders.shop:8080``, or ``orders.shop`` for all ports; these names
            need not stand in ``hosts``.

    Raises:
        ConfigError: an item is no such pattern, a name is given twice, or an endpoint is malformed.
    """

    def __init__(self, hosts: Iterable[str], endpoints: Mapping[str, Endpoints] | None) -> None:
        if isinstance(hosts, str):
            raise ConfigError(f"hosts: {hosts!r} is one text; give a list, such as [{hosts!r}]")
        if not isinstance(hosts, Iterable):
            raise ConfigError(f"hosts: {hosts!r} is no list; give one, such as ['*.shop']")
        self._endpoints = {
            name: _read(name, given)
            for name, given in by_name({} if endpoints is None else endpoints, "endpoints").items()
        }
        self._exact = set(self._endpoints)
        self._below: list[str] = []
        for item in hosts:
            pattern = item.lower() if isinstance(item, str) else ""
            if "/" in pattern or "*" in pattern[1:] or pattern in {"", "*", "*."}:
                raise ConfigError(
                    f"hosts: {item!r} is no host; give 'orders.shop:8080', 'orders.shop' or '*.shop'"
                )
            if pattern.startswith("*"):
                if not pattern.startswith("*."):
                    raise ConfigError(
                        f"hosts: {item!r}: a '*' stands for whole labels, as in '*.shop'"
                    )
                self._below.append(pattern[1:])
            else:
                self._exact.add(pattern)

    def endpoints(self, cluster: str) -> Endpoints | None:
        """The fixed list of a cluster; None: it has none."""
        return of_cluster(self._endpoints, cluster)

    def cluster(self, scheme: str, host: str, port: int | None) -> str | None:
        """The cluster that a URL names; None: it names none, and is left alone.

        ``xds://`` always names one. A missing port is the scheme's own, with ``xds://`` the
        service's only one.
        """
        if scheme == XDS:
            return host if port is None else f"{host}:{port}"
        name = f"{host}:{_PORTS.get(scheme, 0) if port is None else port}"
        if name in self._exact or host in self._exact or host.endswith(tuple(self._below)):
            return name
        return None


def _read(name: str, given: Endpoints) -> Endpoints:
    try:
        return snapshot_of(name, given).endpoints
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None


def by_name(given: Mapping[str, T], argument: str) -> dict[str, T]:
    """What a caller gave by cluster, with names as URLs have them: hosts know no case.

    Raises:
        ConfigError: a name is no cluster's, or two differ in case alone.
    """
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"{argument}: {given!r} is no mapping; give lists by cluster, such as "
            f"{{'orders.shop:8080': ['10.0.0.1:8080']}}"
        )
    found: dict[str, T] = {}
    for name, value in given.items():
        if not isinstance(name, str) or "*" in name or "/" in name:
            raise ConfigError(
                f"{argument}: {name!r} is no cluster's name, such as 'orders.shop:8080'"
            )
        if name.lower() in found:
            raise ConfigError(f"{argument}: {name!r} is there twice; hosts know no case")
        found[name.lower()] = value
    return found


def of_cluster(given: Mapping[str, T], cluster: str) -> T | None:
    """What was given for a cluster, else for its host whatever the port."""
    found = given.get(cluster)
    return given.get(cluster.rpartition(":")[0]) if found is None else found
