"""Which cluster a name means: one table for Listeners, routes, clusters and endpoints.

A cluster is ``SERVICE.NAMESPACE:PORT``; the canonical port is the number. The same cluster answers
to its port's name, to ``SERVICE.NAMESPACE.svc.cluster.local``, without a port (the only one, or the
one named ``grpc``, else ``http``) and, for a client whose namespace is known, without a namespace.
The configuration may add names of its own, which win.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from trimtab.model import ServicePort

_DEFAULT_PORTS = ("grpc", "http")
_MAX_COMPARED = 500  # names that `near` compares at most: it runs on names that clients choose


@dataclass(frozen=True, slots=True)
class Alias:
    """A name from the configuration file for one port of one Service.

    Attributes:
        name: what clients ask for, such as ``ratelimit-eds``.
        namespace: the Service's namespace.
        service: the Service's name.
        port: the Service port's number or name.
    """

    name: str
    namespace: str
    service: str
    port: int | str


class NameTable:
    """All names of all known clusters."""

    def __init__(self, aliases: Iterable[Alias] = ()) -> None:
        self._aliases = {alias.name: alias for alias in aliases}
        self._clusters: dict[str, ServicePort | None] = {}
        self._services: dict[tuple[str, str], dict[str, ServicePort]] = {}

    def add(self, port: ServicePort) -> None:
        """Make a Service's port known; again with other port name or protocol to replace it."""
        self._forget(port.cluster)
        self._clusters[port.cluster] = port
        self._services.setdefault((port.service, port.namespace), {})[port.cluster] = port

    def add_cluster(self, cluster: str) -> None:
        """Make a cluster known by its exact name only: no Service is known behind it."""
        self._forget(cluster)
        self._clusters[cluster] = None

    def remove(self, cluster: str) -> None:
        """Forget a cluster and all its names."""
        self._forget(cluster)
        self._clusters.pop(cluster, None)

    def resolve(self, name: str, namespace: str = "") -> str | None:
        """The canonical cluster behind a name, None if there is none.

        Args:
            name: as a client asks.
            namespace: the client's own, for names without one; "" if unknown.
        """
        alias = self._aliases.get(name)
        if alias is not None:
            return self._port_of(alias.service, alias.namespace, str(alias.port))
        if name in self._clusters:
            return name
        service, namespace, port = _parse(name, namespace)
        return self._port_of(service, namespace, port) if service else None

    @property
    def aliases(self) -> int:
        """How many names the configuration gives."""
        return len(self._aliases)

    def is_alias(self, name: str) -> bool:
        """Whether the configuration gives this name."""
        return name in self._aliases

    def names_of(self, cluster: str) -> tuple[str, ...]:
        """The names under which a wildcard subscription gets a cluster: its own and aliases."""
        own = [a.name for a in self._aliases.values() if self.resolve(a.name) == cluster]
        return (cluster, *(name for name in own if name != cluster))

    def near(self, name: str, limit: int = 3) -> list[str]:
        """Known names that resemble an unknown one, best first.

        Other ports of the Service that is meant come first, then similar spellings.
        """
        service, _, rest = name.partition(".")
        stem = service.partition(":")[0]
        namespace = rest.partition(":")[0].partition(".")[0]
        ports = self._services.get((stem, namespace), {})
        found = sorted(ports)[:limit]
        if len(found) < limit:
            rivals = [
                known
                for known in itertools.chain(self._aliases, self._clusters)
                if known not in ports
                and (known[:2] == name[:2] or f".{namespace}:" in known or stem in known)
            ][:_MAX_COMPARED]
            found += difflib.get_close_matches(name, rivals, n=limit - len(found), cutoff=0.5)
        return found

    def missing_text(self, name: str, namespace: str = "", *, near: bool = True) -> str:
        """Say that nothing answers to a name, and what comes near.

        Args:
            name: as the client asked.
            namespace: the client's own.
            near: False leaves out the search for similar names.
        """
        if name in self._aliases:
            alias = self._aliases[name]
            return (
                f"{name} is configured as port {alias.port} of Service "
                f"{alias.namespace}/{alias.service}, which does not exist"
            )
        text = f"no Service port is known as {name}"
        if not near:
            return text
        service, in_namespace, port = _parse(name, namespace)
        ports = self._services.get((service, in_namespace), {})
        if ports and not port:
            return f"{text}: {_described(ports.values())}; name one of them"
        if ports:
            return f"{text}: {_described(ports.values())}"
        if service and not in_namespace:
            text += " (this client's namespace is not known; use SERVICE.NAMESPACE:PORT)"
        similar = self.near(name)
        return f"{text}; near in spelling: {', '.join(similar)}" if similar else text

    def _forget(self, cluster: str) -> None:
        port = self._clusters.get(cluster)
        if port is None:
            return
        key = (port.service, port.namespace)
        self._services[key].pop(cluster)
        if not self._services[key]:
            del self._services[key]

    def _port_of(self, service: str, namespace: str, port: str) -> str | None:
        ports = self._services.get((service, namespace))
        if not ports:
            return None
        if port:
            if port.isdecimal():
                wanted = f"{service}.{namespace}:{port}"
                return wanted if wanted in ports else None
            return next((c for c, p in ports.items() if p.port_name == port), None)
        if len(ports) == 1:
            return next(iter(ports))
        for default in _DEFAULT_PORTS:
            for cluster, known in ports.items():
                if known.port_name == default:
                    return cluster
        return None


def has_free_part(name: str) -> bool:
    """Whether anybody can make up more names like it: after ``svc`` stands a domain of the client's choice.

    Kubernetes clusters have domains of their own, which nobody tells us.
    """
    parts = name.partition(":")[0].split(".")
    return len(parts) > 3 and parts[2] == "svc" and parts[3:] != ["cluster", "local"]  # noqa: PLR2004 - SERVICE.NAMESPACE.svc.DOMAIN


def missing_among(name: str, known: Iterable[str]) -> str:
    """Say that nothing answers to a name, with what is similar among ``known`` and nothing else."""
    near = difflib.get_close_matches(name, itertools.islice(known, _MAX_COMPARED), n=3, cutoff=0.5)
    text = f"no Service port is known as {name}"
    return f"{text}; near in spelling: {', '.join(near)}" if near else text


def _parse(name: str, namespace: str) -> tuple[str, str, str]:
    """Split a name into service, namespace and port; service is "" if it has another form."""
    host, _, port = name.partition(":")
    parts = host.split(".")
    if len(parts) > 2 and parts[2] != "svc":  # noqa: PLR2004 - SERVICE.NAMESPACE.svc[.DOMAIN]
        return "", "", ""
    return parts[0], parts[1] if len(parts) > 1 else namespace, port


def _described(ports: Iterable[ServicePort]) -> str:
    listed = ", ".join(
        f"{p.port} ({p.port_name})" if p.port_name else str(p.port)
        for p in sorted(ports, key=lambda p: p.port)
    )
    some = next(iter(ports))
    return f"Service {some.namespace}/{some.service} has port {listed}"
