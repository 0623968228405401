"""From a RouteConfiguration to a cluster: gRPC's rules for virtual hosts, for a whole channel.

A channel of trimtab talks to one cluster, so of the matching virtual host the default route counts:
the last one without conditions. Routes by path or header need a native channel. Where the default
route splits its traffic, the heaviest cluster gets all of it.
"""

from __future__ import annotations

from collections.abc import Iterable

from trimtab.errors import ProtocolError
from trimtab.xds import wire_pb2 as wire

_EVERYTHING = frozenset({"", "/"})


def check_routes(routes: wire.RouteConfiguration) -> None:
    """Refuse what gRPC refuses (A27): virtual hosts without domains, broken patterns.

    Raises:
        ProtocolError: naming the field.
    """
    for index, host in enumerate(routes.virtual_hosts):
        where = f"virtual_hosts[{index}].domains"
        if not host.domains:
            raise ProtocolError(f"{where}: empty; a virtual host needs a domain")
        for domain in host.domains:
            if not domain or "*" in domain[1:-1] or domain.count("*") > 1:
                raise ProtocolError(
                    f"{where}: {domain!r} is no domain pattern; one * may stand at either end"
                )


def cluster_for(routes: wire.RouteConfiguration, authority: str) -> str | None:
    """The cluster of the default route for an authority; None if nothing matches.

    Args:
        routes: checked before.
        authority: the target, with its port as the user wrote it.
    """
    host = _best_host(routes.virtual_hosts, authority.lower())
    if host is None:
        return None
    default = None
    for route in host.routes:
        if _is_default(route.match) and route.HasField("route"):
            default = _cluster_of(route.route) or default
    return default


def _best_host(hosts: Iterable[wire.VirtualHost], authority: str) -> wire.VirtualHost | None:
    """Exact beats suffix (``*.shop``) beats prefix (``orders.*``) beats ``*``; longer wins."""
    best: tuple[int, int] = (0, 0)
    found = None
    for host in hosts:
        for pattern in host.domains:
            domain = pattern.lower()
            rank = _rank(domain, authority)
            if rank and (rank, len(domain)) > best:
                best, found = (rank, len(domain)), host
    return found


def _rank(domain: str, authority: str) -> int:
    if domain == "*":
        return 1
    if domain.endswith("*"):
        # The * stands for at least one character.
        return 2 if authority.startswith(domain[:-1]) and len(authority) >= len(domain) else 0
    if domain.startswith("*"):
        return 3 if authority.endswith(domain[1:]) and len(authority) >= len(domain) else 0
    return 4 if domain == authority else 0


def _is_default(match: wire.RouteMatch) -> bool:
    return (
        match.WhichOneof("path_specifier") == "prefix"
        and match.prefix in _EVERYTHING
        and not (match.headers or match.query_parameters or match.runtime_fraction)
    )


def _cluster_of(action: wire.RouteAction) -> str | None:
    kind = action.WhichOneof("cluster_specifier")
    if kind == "cluster":
        return action.cluster
    if kind == "weighted_clusters" and action.weighted_clusters.clusters:
        return max(action.weighted_clusters.clusters, key=lambda c: c.weight.value).name
    return None
