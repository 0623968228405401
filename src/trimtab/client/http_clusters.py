"""The clusters that a program's URLs name, each followed from its first request on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from random import Random
from typing import Any, cast

from trimtab.attempt import Retry
from trimtab.balancer import Node
from trimtab.client.bootstrap import load
from trimtab.client.channel_spec import BootstrapSource, ChannelSpec, Endpoints, Fallbacks
from trimtab.client.fallback import Fallback, Given
from trimtab.client.forking import watch_forks
from trimtab.client.http_cluster import HttpCluster
from trimtab.client.http_names import XDS, HttpNames, by_name, of_cluster
from trimtab.client.http_plans import HttpPlans
from trimtab.client.kill_switch import VARIABLE, http_disabled
from trimtab.client.last_good import LastGood
from trimtab.client.request_key import KeyFunction, checked
from trimtab.errors import ConfigError
from trimtab.model import Locality, PolicyConfig, is_number
from trimtab.policies.stack import Stack

HttpFallbacks = LastGood | Mapping[str, Fallbacks]

TLS = frozenset({"https", "wss"})
_MOST_FOREIGN = 4096  # a crawler sees more hosts than memory
_MOST_UNKNOWN = 64  # clusters that nobody knows: a part of the host may be a stranger's choice


class HttpClusters:
    """What all HTTP doors share; see ``trimtab.httpx.Transport`` for the arguments.

    Args:
        pool: makes the pool of an endpoint.
        closes: whether pools are to be closed.

    Raises:
        ConfigError: an argument is wrong.
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
        fallback: HttpFallbacks | None,
        retry: Retry | None,
        retries: Mapping[str, Retry] | None,
        hash_key: KeyFunction | None,
        idle_s: float | None = None,
        closes: bool = True,
    ) -> None:
        if not (idle_s is None or (is_number(idle_s) and idle_s > 0.0)):
            raise ConfigError(f"idle_s={idle_s!r} is not a number of seconds above 0, or None")
        self._idle_s = None if idle_s is None else float(idle_s)
        self._pool = pool
        self._closes = closes
        self._names = HttpNames(hosts, endpoints)
        self._fallback = _checked(fallback)
        self._plans = HttpPlans(retry, retries)
        self._disabled = http_disabled()
        self._bootstrap = bootstrap
        self._arguments: dict[str, Any] = {
            "policy": policy,
            "locality": locality,
            "labels": labels,
            "hash_key": checked(hash_key, "HTTP"),
        }
        self._check()
        self._found: dict[tuple[str, str, int | None], HttpCluster | None] = {}
        self._clusters: dict[str, HttpCluster] = {}
        self._making = threading.RLock()  # a signal's handler may close what is being made
        self._parents: list[HttpCluster] = []
        watch_forks(self)

    def _check(self) -> None:
        """Refuse now what every cluster's first request would be refused for.

        Where no bootstrap is given the environment's is read with the first request to a cluster that needs one:
        a transport may be made where no request is ever sent.
        """
        spec = ChannelSpec.of(
            "HTTP requests", None, None, None, endpoints=(), bootstrap=None, **self._arguments
        )
        Stack(spec.policy, Random())
        if self._bootstrap is not None and not self._disabled:
            load(self._bootstrap)

    def __del__(self) -> None:
        if hasattr(self, "_clusters"):  # else __init__ raised
            self.abandon()

    def forked(self) -> None:
        """See ``forking.Copied``: the child follows and connects anew, from its first request on."""
        self._parents = list(self._clusters.values())  # kept: their connections are not ours to end
        self._found, self._clusters, self._making = {}, {}, threading.RLock()
        watch_forks(self)

    def __iter__(self) -> Iterator[HttpCluster]:
        return iter(list(self._clusters.values()))

    def taken(self) -> Iterator[HttpCluster]:
        """All, to be closed, each of which is found no more: the next request to it finds it anew.

        One is taken as it is asked for: who is interrupted while he closes one leaves the rest to the next.
        """
        while self._clusters:
            with self._making:
                if not self._clusters:
                    return
                cluster = self._clusters.pop(next(iter(self._clusters)))
                self._find_no_more(cluster)
            yield cluster

    def abandon(self) -> None:
        """The client was dropped unclosed: follow nobody any more. Safe in finalisers."""
        for cluster in list(self._clusters.values()):
            cluster.abandon()

    def names(self, scheme: str, host: str, port: int | None) -> bool:
        """Whether a URL names a cluster. None is made, and nobody is asked."""
        return self._names.cluster(scheme, host, port) is not None and not self._disabled

    def of(self, scheme: str, host: str, port: int | None) -> HttpCluster | None:
        """The cluster that a URL names; None: leave it alone.

        Raises:
            ConfigError: it names one, and the environment's bootstrap is wrong or missing; or it can name
                nothing else, and ``TRIMTAB_DISABLE`` is set.
        """
        try:
            return self._found[scheme, host, port]
        except KeyError:
            pass  # found out of here, so that an error of its own doesn't begin with this one
        return self._find((scheme, host, port))

    def anew(self, scheme: str, host: str, port: int | None) -> HttpCluster:
        """The cluster in the place of one that was let go of."""
        return cast("HttpCluster", self._find((scheme, host, port)))

    def _find(self, place: tuple[str, str, int | None]) -> HttpCluster | None:
        name = self._names.cluster(*place)
        if name is not None and self._disabled:
            if place[0] == XDS:
                raise ConfigError(
                    f"xds://{name}: {VARIABLE} is set, and nobody but trimtab knows such a URL; "
                    f"write http://{name}, or unset it"
                )
            name = None
        if name is None:
            if len(self._found) < _MOST_FOREIGN:
                self._found[place] = None
            return None
        with self._making:
            cluster = self._clusters.get(name)
            if cluster is None:
                self._forget_unknown()
                cluster = self._make(name)
                cluster.left.extend(self._idle_no_more_followed())  # its door closes their pools
                self._clusters[name] = cluster
            cluster.tls = cluster.tls or place[0] in TLS
            self._found[place] = cluster
            return cluster

    def _forget_unknown(self) -> None:
        """Follow the oldest of those that were never heard of no more, if there are too many."""
        unknown = [(name, c) for name, c in self._clusters.items() if c.is_unknown]
        for name, cluster in unknown[: max(0, len(unknown) - _MOST_UNKNOWN + 1)]:
            self._find_no_more(cluster)
            if cluster.forget():
                del self._clusters[name]

    def _idle_no_more_followed(self) -> list[Node]:
        """Follow no more what was not called for ``idle_s``; its endpoints whose pools are to be closed."""
        nodes: list[Node] = []
        if self._idle_s is not None:
            for name, cluster in list(self._clusters.items()):
                if not cluster.is_idle(self._idle_s):
                    continue
                self._find_no_more(cluster)
                left = cluster.let_go()
                if left is not None:
                    del self._clusters[name]
                    nodes += left
        return nodes

    def _find_no_more(self, cluster: HttpCluster) -> None:
        found = self._found.copy()  # other threads go on finding foreign hosts
        for place in [place for place, its in found.items() if its is cluster]:
            del self._found[place]

    def _make(self, name: str) -> HttpCluster:
        fixed = self._names.endpoints(name)
        spec = ChannelSpec.of(
            name,
            None,
            None,
            None,
            endpoints=fixed,
            bootstrap=None if fixed is not None else self._bootstrap,
            fallback=self._fallback_of(name),
            **self._arguments,
        )
        cluster = HttpCluster(spec, self._pool, self._plans, closes=self._closes)
        cluster.start()
        return cluster

    def _fallback_of(self, name: str) -> Fallbacks | None:
        given = self._fallback
        if isinstance(given, LastGood):
            return None if self._names.endpoints(name) is not None else given
        return None if given is None else of_cluster(given, name)


def _checked(fallback: HttpFallbacks | None) -> HttpFallbacks | None:
    if not isinstance(fallback, LastGood | Mapping | None):
        raise ConfigError(
            f"fallback: {fallback!r} is neither a LastGood nor a mapping; give the endpoints by "
            "cluster, such as {'orders.shop:8080': ['10.0.0.1:8080']}"
        )
    if not isinstance(fallback, Mapping):
        return fallback
    found: dict[str, Fallbacks] = {}
    for name, given in by_name(fallback, "fallback").items():
        # More than one will read it.
        once = not isinstance(given, LastGood | str) and isinstance(given, Iterable)
        kept = tuple(cast("Iterable[Given]", given)) if once else given
        Fallback.of(name, kept, "")
        found[name] = kept
    return found
