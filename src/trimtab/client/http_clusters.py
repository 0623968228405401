"""The clusters that a program's URLs name, each followed from its first request on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from trimtab.balancer import Node
from trimtab.client.channel_spec import BootstrapSource, ChannelSpec, Endpoints
from trimtab.client.forking import watch_forks
from trimtab.client.http_cluster import HttpCluster
from trimtab.client.http_names import HttpNames
from trimtab.model import Locality, PolicyConfig

_MOST_FOREIGN = 4096  # a crawler sees more hosts than memory


class HttpClusters:
    """What all HTTP doors share; see ``trimtab.httpx.Transport`` for the arguments.

    Args:
        pool: makes the pool of an endpoint.

    Raises:
        ConfigError: a wrong host.
    """

    def __init__(
        self,
        pool: Callable[[Node], Any],
        hosts: Iterable[str],
        *,
        policy: str | PolicyConfig | None,
        endpoints: Mapping[str, Endpoints] | None,
        bootstrap: BootstrapSource | None,
        locality: str | Locality | None,
        labels: Mapping[str, str] | None,
    ) -> None:
        self._pool = pool
        self._names = HttpNames(hosts, endpoints)
        self._bootstrap = bootstrap
        self._arguments: dict[str, Any] = {"policy": policy, "locality": locality, "labels": labels}
        self._found: dict[tuple[str, str, int | None], HttpCluster | None] = {}
        self._clusters: dict[str, HttpCluster] = {}
        self._making = threading.Lock()
        self._parents: list[HttpCluster] = []
        watch_forks(self)

    def forked(self) -> None:
        """See ``forking.Copied``: the child follows and connects anew, from its first request on."""
        self._parents = list(self._clusters.values())  # kept: their connections are not ours to end
        self._found, self._clusters, self._making = {}, {}, threading.Lock()

    def __iter__(self) -> Iterator[HttpCluster]:
        return iter(list(self._clusters.values()))

    def of(self, scheme: str, host: str, port: int | None) -> HttpCluster | None:
        """The cluster that a URL names; None: leave it alone.

        Raises:
            ConfigError: it names one, and the policy, an endpoint or the bootstrap is wrong.
        """
        try:
            return self._found[scheme, host, port]
        except KeyError:
            return self._find((scheme, host, port))

    def _find(self, place: tuple[str, str, int | None]) -> HttpCluster | None:
        name = self._names.cluster(*place)
        if name is None:
            if len(self._found) < _MOST_FOREIGN:
                self._found[place] = None
            return None
        with self._making:
            cluster = self._clusters.get(name)
            if cluster is None:
                cluster = self._clusters[name] = self._make(name)
            self._found[place] = cluster
            return cluster

    def _make(self, name: str) -> HttpCluster:
        fixed = self._names.endpoints.get(name)
        spec = ChannelSpec.of(
            name,
            None,
            None,
            None,
            endpoints=fixed,
            bootstrap=None if fixed is not None else self._bootstrap,
            **self._arguments,
        )
        cluster = HttpCluster(spec, self._pool)
        cluster.start()
        return cluster
