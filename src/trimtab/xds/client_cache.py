"""The resources that a client has, and the chain through them from a watched name to endpoints."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from google.protobuf.message import DecodeError

from trimtab.errors import ProtocolError
from trimtab.xds import type_urls
from trimtab.xds import wire_pb2 as wire
from trimtab.xds.decoding import (
    ClusterFacts,
    ListenerFacts,
    decode_cluster,
    decode_listener,
    decode_routes,
)
from trimtab.xds.endpoint_decoding import Assignment, AssignmentDecoder
from trimtab.xds.routing import cluster_for

T = TypeVar("T")

_DATA_ERRORS = frozenset({5, 7})  # NOT_FOUND, PERMISSION_DENIED: a verdict, not a hiccup (gRFC A88)


@dataclass(slots=True)
class Chain:
    """How far a watched name has been resolved.

    Attributes:
        names: per type, the resource that it needs.
        cluster: the Cluster, if it is known.
        assignment: the endpoints, if they are known.
        absent: why there is no such service, "" if there is or nobody has said.
        missing: what the control plane has not sent yet, "" if nothing.
    """

    names: dict[str, str] = field(default_factory=dict)
    cluster: ClusterFacts | None = None
    assignment: Assignment | None = None
    absent: str = ""
    missing: str = ""


class Resources:
    """Everything that was received and still is wanted. Bad news never removes good state."""

    def __init__(self) -> None:
        self._listeners: dict[str, ListenerFacts] = {}
        self._routes: dict[str, wire.RouteConfiguration] = {}
        self._clusters: dict[str, ClusterFacts] = {}
        self._assignments: dict[str, Assignment] = {}
        self._decoders: dict[str, AssignmentDecoder] = {}
        self._absent: dict[tuple[str, str], str] = {}
        self._picked: dict[str, tuple[wire.RouteConfiguration, str | None]] = {}

    def put(self, type_url: str, name: str, value: bytes) -> None:
        """Take in a resource of one of the four types.

        Raises:
            ProtocolError: it is bad; the earlier one stays.
        """
        if type_url == type_urls.LDS:
            self._listeners[name] = decode_listener(value)
        elif type_url == type_urls.RDS:
            self._routes[name] = decode_routes(value)
        elif type_url == type_urls.CDS:
            self._clusters[name] = decode_cluster(value)
        else:
            decoder = self._decoders.setdefault(name, AssignmentDecoder())
            self._assignments[name] = decoder.decode(value)
        self._absent.pop((type_url, name), None)

    def put_error(self, type_url: str, name: str, code: int, text: str) -> None:
        """Take in what the control plane says in place of a resource (xRFC TP3)."""
        if code in _DATA_ERRORS or not self._has(type_url, name):
            self._absent[type_url, name] = (
                text or f"the control plane has no {_named(type_url, name)}"
            )

    def removed(self, type_url: str, names: Iterable[str]) -> None:
        """A response of the full set left these out: what was there has been deleted."""
        for name in names:
            if self._has(type_url, name):
                self._absent.setdefault(
                    (type_url, name), f"the control plane removed {_named(type_url, name)}"
                )

    def wanted(self, watched: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Per type the names to subscribe to. What nobody wants any more is forgotten."""
        needed: dict[str, dict[str, None]] = {
            type_url: {}
            for type_url in (type_urls.LDS, type_urls.RDS, type_urls.CDS, type_urls.EDS)
        }
        for name in watched:
            for type_url, needs in self.chain(name).names.items():
                needed[type_url][needs] = None
        self._keep(needed)
        return {type_url: tuple(names) for type_url, names in needed.items()}

    def chain(self, name: str) -> Chain:
        """Follow a watched name as far as the resources go."""
        chain = Chain()
        if not self._follow(chain, type_urls.LDS, name):
            return chain
        listener = self._listeners[name]
        routes = listener.routes
        if routes is None:
            if not self._follow(chain, type_urls.RDS, listener.route_name):
                return chain
            routes = self._routes[listener.route_name]
        cluster = self._pick(name, routes)
        if cluster is None:
            chain.absent = chain.absent or (
                f"no virtual host of the control plane's routes {routes.name!r} has a default "
                f"route for {name}"
            )
        elif self._follow(chain, type_urls.CDS, cluster):
            chain.cluster = self._clusters[cluster]
            endpoints = chain.cluster.endpoints_name
            if self._follow(chain, type_urls.EDS, endpoints):
                chain.assignment = self._assignments[endpoints]
        return chain

    def _follow(self, chain: Chain, type_url: str, name: str) -> bool:
        chain.names[type_url] = name
        chain.absent = chain.absent or self._absent.get((type_url, name), "")
        if self._has(type_url, name):
            return True
        chain.missing = _named(type_url, name)
        return False

    def _has(self, type_url: str, name: str) -> bool:
        return name in self._table(type_url)

    def _table(self, type_url: str) -> Collection[str]:
        if type_url == type_urls.LDS:
            return self._listeners
        if type_url == type_urls.RDS:
            return self._routes
        return self._clusters if type_url == type_urls.CDS else self._assignments

    def _pick(self, name: str, routes: wire.RouteConfiguration) -> str | None:
        known = self._picked.get(name)
        if known is None or known[0] is not routes:
            known = self._picked[name] = (routes, cluster_for(routes, name))
        return known[1]

    def _keep(self, needed: dict[str, dict[str, None]]) -> None:
        _forget_others(self._listeners, needed[type_urls.LDS])
        _forget_others(self._picked, needed[type_urls.LDS])
        _forget_others(self._routes, needed[type_urls.RDS])
        _forget_others(self._clusters, needed[type_urls.CDS])
        _forget_others(self._assignments, needed[type_urls.EDS])
        _forget_others(self._decoders, needed[type_urls.EDS])
        for type_url, name in [key for key in self._absent if key[1] not in needed[key[0]]]:
            del self._absent[type_url, name]


def name_of(value: bytes) -> str:
    """A resource's name, even if the rest of it is bad: field 1 in all four types.

    Raises:
        ProtocolError: there is none.
    """
    try:
        name = wire.ResourceName.FromString(value).name
    except DecodeError as error:
        raise ProtocolError(f"not a message: {error}") from error
    if not name:
        raise ProtocolError("name: empty")
    return name


def _forget_others(table: dict[str, T], kept: Collection[str]) -> None:
    for name in [n for n in table if n not in kept]:
        del table[name]


def _named(type_url: str, name: str) -> str:
    return f"{type_urls.short(type_url)} {name}"
