"""Which URLs name a cluster. Decided without asking anybody: a foreign host must not wait."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from trimtab.client.channel_spec import Endpoints
from trimtab.errors import ConfigError

XDS = "xds"
_PORTS = {"http": 80, "https": 443}


class HttpNames:
    """The hosts that a caller named.

    Args:
        hosts: ``orders.shop:8080``, ``orders.shop`` (all ports) or ``*.shop`` (all below it).
        endpoints: fixed lists by name, ``orders.shop:8080``; these names need not stand in
            ``hosts``.

    Raises:
        ConfigError: an item is no such pattern.
    """

    def __init__(self, hosts: Iterable[str], endpoints: Mapping[str, Endpoints] | None) -> None:
        if isinstance(hosts, str):
            raise ConfigError(f"hosts: {hosts!r} is one text; give a list, such as [{hosts!r}]")
        self.endpoints = dict(endpoints or {})
        self._exact = set(self.endpoints)
        self._below: list[str] = []
        for item in hosts:
            pattern = item.lower()
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
