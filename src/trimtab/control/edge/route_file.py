"""The file behind ``trimtab bootstrap --for envoy --routes``: YAML to an ``Edge``, checked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from trimtab.control.config import Address, explain, parse_address, read_yaml
from trimtab.control.edge.model import Edge, Fallback, Route
from trimtab.errors import ConfigError

_LONGEST_S = 86_400
_HOST = re.compile(r"\*|(\*\.)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_HEADER = re.compile(r"[a-z0-9_.-]{1,100}")
_SERVICE = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[a-z0-9-]{1,63})?")
# The names under which clusters come over CDS: canonical, or given in trimtab's --config.
_CLUSTER = re.compile(r"[a-z0-9-]+\.[a-z0-9-]+:[0-9]{1,5}|[a-z0-9-]+")

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
_Protocol = Literal["http1", "h2c"]


class _Fallback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    addresses: Annotated[tuple[_Text, ...], msgspec.Meta(min_length=1, max_length=100)]
    protocol: _Protocol = "http1"


class _Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    service: _Text
    hosts: Annotated[tuple[_Text, ...], msgspec.Meta(min_length=1)] = ("*",)
    prefix: Annotated[str, msgspec.Meta(pattern="^/", max_length=1000)] = "/"
    timeout_s: Annotated[float, msgspec.Meta(ge=0, le=_LONGEST_S)] = 15.0
    idle_timeout_s: Annotated[float, msgspec.Meta(ge=0, le=_LONGEST_S)] | None = None
    retries: Annotated[int, msgspec.Meta(ge=0, le=10)] = 2
    hash_key: str = ""
    protocol: _Protocol | None = None
    fallback: _Fallback | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    routes: Annotated[tuple[_Route, ...], msgspec.Meta(min_length=1)]
    # An edge is there for others.
    listeners: Annotated[tuple[_Text, ...], msgspec.Meta(min_length=1)] = ("0.0.0.0:8080",)
    admin: _Text = "127.0.0.1:9901"


def load_edge(path: Path, *, endpoints_only: bool = False) -> Edge:
    """Read a route file.

    Args:
        path: of the file.
        endpoints_only: the Envoy takes no clusters from trimtab, so each route may say its protocol.

    Raises:
        ConfigError: naming the file, the field, the bad value and the fix.
    """
    content = read_yaml(path, "check --routes")
    try:
        file = msgspec.convert(content if content is not None else {}, _File)
    except msgspec.ValidationError as error:
        parts: dict[str, type[msgspec.Struct]] = {".fallback": _Fallback, "routes[": _Route}
        raise ConfigError(explain(path, content, str(error), _File, parts)) from None
    listeners = tuple(
        _address(path, f"listeners[{i}]", text) for i, text in enumerate(file.listeners)
    )
    if len(set(listeners)) < len(listeners):
        raise ConfigError(f"{path}: listeners: an address stands twice; remove one")
    routes = tuple(
        _route(path, f"routes[{i}]", route, endpoints_only=endpoints_only)
        for i, route in enumerate(file.routes)
    )
    _refuse_unreachable(path, routes)
    _refuse_contradictions(path, routes)
    return Edge(listeners, routes, _address(path, "admin", file.admin))


def _route(path: Path, where: str, route: _Route, *, endpoints_only: bool) -> Route:
    def refuse(field: str, value: str, fix: str) -> ConfigError:
        return ConfigError(f"{path}: {where}.{field}: {value!r:.80}: {fix}")

    if _SERVICE.fullmatch(route.service) is None:
        raise refuse("service", route.service, "name a Service port, such as orders.shop:8080")
    if not endpoints_only and _CLUSTER.fullmatch(route.service) is None:
        raise refuse(
            "service", route.service, "write SERVICE.NAMESPACE:PORT with the port's number"
        )
    hosts = tuple(host.lower() for host in route.hosts)
    for host in hosts:
        if _HOST.fullmatch(host) is None:
            raise refuse("hosts", host, "write a host name without a port, *.example.com, or *")
    if route.hash_key and _HEADER.fullmatch(route.hash_key) is None:
        raise refuse("hash_key", route.hash_key, "name a header in lower case, such as x-user")
    if route.protocol and not endpoints_only:
        raise refuse(
            "protocol",
            route.protocol,
            "the Service's appProtocol decides that; leave it out (it is for --endpoints-only)",
        )
    fallback = None
    if route.fallback is not None:
        fallback = Fallback(
            tuple(
                _address(path, f"{where}.fallback.addresses[{i}]", text)
                for i, text in enumerate(route.fallback.addresses)
            ),
            http2=route.fallback.protocol == "h2c",
        )
        if len(set(fallback.addresses)) < len(fallback.addresses):
            raise ConfigError(f"{path}: {where}.fallback.addresses: one stands twice; remove one")
    return Route(
        service=route.service,
        hosts=hosts,
        prefix=route.prefix,
        timeout_s=route.timeout_s,
        idle_timeout_s=route.idle_timeout_s,
        retries=route.retries,
        hash_key=route.hash_key,
        http2=route.protocol == "h2c",
        fallback=fallback,
    )


def _address(path: Path, where: str, text: str) -> Address:
    try:
        address = parse_address(text)
    except ConfigError as error:
        raise ConfigError(f"{path}: {where}: {error}") from None
    if not address.port:
        raise ConfigError(f"{path}: {where}: {text!r}: port 0 is nowhere; give 1 to 65535")
    return address


def _refuse_unreachable(path: Path, routes: tuple[Route, ...]) -> None:
    """A route of which every host has an earlier one with the same prefix, or one of its front."""
    seen: dict[str, list[tuple[str, int]]] = {}
    for i, route in enumerate(routes):
        for host in route.hosts:
            for prefix, earlier in seen.get(host, []):
                if prefix == "/" or (route.prefix + "/").startswith(prefix.rstrip("/") + "/"):
                    raise ConfigError(
                        f"{path}: routes[{i}].prefix: {route.prefix!r}: is never reached at {host}, "
                        f"since routes[{earlier}] takes {prefix!r}; put the longer one first"
                    )
            seen.setdefault(host, []).append((route.prefix, i))


def _refuse_contradictions(path: Path, routes: tuple[Route, ...]) -> None:
    """Two routes to one Service share its clusters."""
    fallbacks: dict[str, tuple[int, Fallback]] = {}
    protocols: dict[str, tuple[int, bool]] = {}
    for i, route in enumerate(routes):
        earlier, http2 = protocols.setdefault(route.service, (i, route.http2))
        if http2 != route.http2:
            raise ConfigError(
                f"{path}: routes[{i}].protocol: is another than that of routes[{earlier}], and "
                f"both lead to {route.service}; write the same"
            )
        if route.fallback is not None:
            earlier, known = fallbacks.setdefault(route.service, (i, route.fallback))
            if known != route.fallback:
                raise ConfigError(
                    f"{path}: routes[{i}].fallback: is another than that of routes[{earlier}], and "
                    f"both lead to {route.service}; write the same, or none"
                )
