"""What the caller asked of a channel, and how each endpoint's native channel follows from it."""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any, Self

import grpc

from trimtab.attempt import BUFFER_BYTES, NO_PLANS, MethodPlans, Plan, Retry, parse
from trimtab.client import native_arguments
from trimtab.client.attempts import Attempts
from trimtab.client.bootstrap import ZONE_VARIABLE, Bootstrap, load
from trimtab.client.connections import ONE, Connections
from trimtab.client.fallback import NONE, Fallback, Given, WithFallback
from trimtab.client.health import SERVICE_CONFIG, paired, watched_name
from trimtab.client.last_good import LastGood
from trimtab.client.open_channels import Listed
from trimtab.client.request_key import KeyFunction, checked
from trimtab.client.request_labels import texts
from trimtab.client.seats import Seated, own_place
from trimtab.client.tls_files import TlsCredentials
from trimtab.client.watching import Closable, Fixed, Watch, Watcher, report, service_name, watch
from trimtab.errors import ConfigError
from trimtab.model import Endpoint, Locality, PolicyConfig, whole

if TYPE_CHECKING:
    from trimtab.balancer import Balancer

Options = Sequence[tuple[str, Any]]
Endpoints = Iterable[str | Endpoint]
Fallbacks = LastGood | Iterable[Given]
BootstrapSource = str | Mapping[str, Any] | Bootstrap

LAST_GOOD_VARIABLE = "TRIMTAB_LAST_GOOD"
_BUFFER_OPTION = "grpc.per_rpc_retry_buffer_size"
_NEVER_MS = 2**31 - 1
_PONG_MS = 5_000
_CONNECT_MS = 2_000
_RETRY_MS = 500
_LONGEST_RETRY_MS = 10_000


@dataclass(frozen=True, slots=True)
class ChannelSpec:
    """A channel's arguments, parsed once.

    Attributes:
        target: as given.
        service: the name in it.
        credentials: None for an insecure channel.
        options: of every endpoint's channel; see ``options_for``.
        compression: of every endpoint's channel.
        policy: None follows what the control plane says.
        endpoints: a fixed list, or None.
        bootstrap: see ``client.bootstrap.load``.
        zone: where this process runs, "" if unknown.
        labels: endpoints without all of these are left out.
        fallback: whom to call while there is nobody.
        plans: what may run more than once, by method.
        health: what endpoints' health services are asked for; None: nothing.
        hash_key: says the key of a request, where the policy wants one; None: nobody.
        connections: how many to each endpoint, and for how long.
        buffer_bytes: how much of a request that is a stream is kept for further attempts.
    """

    target: str
    service: str
    credentials: grpc.ChannelCredentials | None
    options: Options
    compression: grpc.Compression | None
    policy: PolicyConfig | None
    endpoints: Endpoints | None
    bootstrap: BootstrapSource | None
    zone: str
    labels: Mapping[str, str]
    fallback: Fallback = NONE
    plans: MethodPlans = NO_PLANS
    health: str | None = None
    hash_key: KeyFunction | None = None
    connections: Connections = ONE
    buffer_bytes: int = BUFFER_BYTES

    @classmethod
    def of(
        cls,
        target: str,
        credentials: grpc.ChannelCredentials | None,
        options: Options | None,
        compression: grpc.Compression | None,
        *,
        policy: str | PolicyConfig | None,
        endpoints: Endpoints | None,
        bootstrap: BootstrapSource | None,
        locality: str | Locality | None = None,
        labels: Mapping[str, str] | None = None,
        fallback: Fallbacks | None = None,
        retry: Retry | None = None,
        health: str | None = None,
        hash_key: KeyFunction | None = None,
        connections: Connections | None = None,
    ) -> Self:
        """From a factory's arguments.

        Raises:
            ConfigError: the target names no service, an argument is of another type, or the bootstrap is
                bad.
        """
        service = service_name(target)
        options = native_arguments.options(target, options)
        if endpoints is None:
            bootstrap = load(bootstrap)
        elif fallback is not None:
            raise ConfigError(
                f"channel {target!r}: endpoints= and fallback= exclude each other; "
                "a fixed list has no control plane to lose"
            )
        if not isinstance(policy, str | PolicyConfig | None):
            raise ConfigError(
                f"channel {target!r}: policy={policy!r} is neither a policy's name, such as 'p2c', "
                "nor a PolicyConfig"
            )
        plans, kept = _plans(target, options, retry)
        return cls(
            target=target,
            service=service,
            credentials=credentials,
            options=options_for(service, kept),
            compression=native_arguments.compression(target, compression),
            policy=PolicyConfig(policy) if isinstance(policy, str) else policy,
            endpoints=endpoints,
            bootstrap=bootstrap,
            zone=_zone(target, locality, bootstrap),
            labels={} if labels is None else texts(f"channel {target!r}", labels),
            fallback=Fallback.of(service, fallback, os.environ.get(LAST_GOOD_VARIABLE, "")),
            plans=plans,
            health=watched_name(plans.rest, health, f"channel {target!r}"),
            hash_key=checked(hash_key, f"channel {target!r}"),
            connections=Connections.of(connections, os.environ, f"channel {target!r}"),
            buffer_bytes=_buffer_bytes(target, kept),
        )

    @property
    def renewed(self) -> TlsCredentials | None:
        """The credentials, if they are those of files that are watched."""
        return self.credentials if isinstance(self.credentials, TlsCredentials) else None

    def complaint(self) -> str:
        """What is wrong with the credentials' files now, "" if nothing is."""
        return "" if self.renewed is None else self.renewed.complaint

    def endpoint_options(self) -> tuple[Options, Options | None]:
        """Of one endpoint's channel, and of the one that watches its health, if any does."""
        return (self.options, None) if self.health is None else paired(self.options, self.health)

    @property
    def repeats(self) -> bool:
        """Whether anything may ever be said of methods: that they may run more than once, or for how long."""
        return self.endpoints is None or bool(self.plans.plans)

    def attempts(self, random: Random, balancer: Balancer) -> Attempts:
        """The rules of further attempts."""
        return Attempts(self.plans, random, balancer, self.buffer_bytes)

    def watch(self, watcher: Watcher) -> Watch:
        """Begin to tell ``watcher`` of the endpoints; see ``watching.watch``."""
        if self.endpoints is not None:
            return watch(self.target, watcher, endpoints=self.endpoints, bootstrap=self.bootstrap)
        wall = time.time  # noqa: TID251 - the age of a file is told by the wall clock
        standing = WithFallback(self.service, watcher, self.fallback, wall)
        standing.start(self._seated)
        return standing

    def report(self, balancer: Balancer) -> Closable:
        """Have what ``balancer`` does reported to the control plane, if there is one, and shown."""
        if self.endpoints is not None or not isinstance(self.bootstrap, Bootstrap):
            return Listed(balancer, Fixed())
        return Listed(balancer, report(balancer, self.bootstrap))

    def _seated(self, watcher: Watcher) -> Watch:
        """Watch the target, and where the policy wants a subset, who else calls it."""

        def begin(name: str, own: Watcher) -> Watch:
            return watch(name, own, bootstrap=self.bootstrap)

        node = self.bootstrap.node if isinstance(self.bootstrap, Bootstrap) else None
        service, address = own_place(node.cluster, node.metadata, os.environ) if node else ("", "")
        if not (service and address):
            return begin(self.target, watcher)
        seated = Seated(watcher, service, address, self.policy)
        seated.start(self.target, begin)
        return seated


def _plans(target: str, options: Options, retry: Retry | None) -> tuple[MethodPlans, Options]:
    """What is ours of the service config, and the options with what is left of it."""
    if retry is not None and not isinstance(retry, Retry):
        raise ConfigError(
            f"channel {target!r}: retry={retry!r} is no trimtab.Retry, such as "
            "trimtab.Retry(attempts=3, on=['UNAVAILABLE'])"
        )
    plans = NO_PLANS
    said = dict(options).get(SERVICE_CONFIG)
    if said is not None:
        try:
            plans = parse(said)
        except ConfigError as error:
            raise ConfigError(f"channel {target!r}: {error}") from None
        options = [(k, plans.rest if k == SERVICE_CONFIG else v) for k, v in options]
    if retry is not None:
        own = {name: replace(p, retry=p.retry or retry) for name, p in plans.plans.items()}
        plans = replace(plans, plans={"": Plan(retry), **own})
    return plans, options


def _buffer_bytes(target: str, options: Options) -> int:
    """What is kept of a request that is a stream: gRPC's own option and default."""
    given = dict(options).get(_BUFFER_OPTION, BUFFER_BYTES)
    found = whole(given)
    if found is None or found < 0:
        raise ConfigError(
            f"channel {target!r}: {_BUFFER_OPTION}={given!r} is not a number of bytes, such as 262144"
        )
    return found


def _zone(
    target: str,
    locality: str | Locality | None,
    bootstrap: BootstrapSource | None,
) -> str:
    """The caller's own word, else the bootstrap's, else the environment's."""
    said = locality.zone if isinstance(locality, Locality) else locality
    if isinstance(said, str):
        return said
    if said is not None or locality is not None:
        raise ConfigError(
            f"channel {target!r}: locality={locality!r} is neither a zone's name nor a Locality"
        )
    zone = bootstrap.node.locality.zone if isinstance(bootstrap, Bootstrap) else ""
    return zone or os.environ.get(ZONE_VARIABLE, "")


def by_name(endpoint: Endpoint) -> bool:
    """Whether an endpoint is told by a host name and not by its IP address."""
    return target_of(endpoint).startswith("dns:")


def target_of(endpoint: Endpoint) -> str:
    """The gRPC target of an endpoint. An IP literal needs no resolver, a host name DNS."""
    try:
        version = ipaddress.ip_address(endpoint.address).version
    except ValueError:
        return f"dns:///{endpoint.target}"
    return f"ipv{version}:{endpoint.target}"


def options_for(service: str, given: Options | None) -> Options:
    """The options of every endpoint's channel; what the caller gives wins.

    Args:
        service: the name in the channel's target. It stays the authority of each call, as with
            native xDS channels, so servers and certificates see the service and not an IP address.
        given: the caller's channel options.
    """
    given = tuple(given or ())
    named = dict(given)
    defaults = {
        "grpc.default_authority": service,
        # An environment's ``no_proxy`` names services, and no pod's address; there is no proxy to pods.
        "grpc.enable_http_proxy": 0,
        # The process-wide pool would share connections between channels: fewer connections than
        # endpoints' states suggest, and one channel's closing felt by another.
        "grpc.use_local_subchannel_pool": 1,
        # After 30 quiet minutes native channels let go of their connection, so that the next
        # request would wait for a new one.
        "grpc.client_idle_timeout_ms": _NEVER_MS,
        # Without it a frozen server is noticed after 60 s, whatever keepalive the caller asks for.
        "grpc.http2.ping_timeout_ms": named.get("grpc.keepalive_timeout_ms", _PONG_MS),
        # How long a connection may take, TLS and HTTP/2's greeting included; 20 s by default. Where
        # the network is slower than that, later attempts get more: as long as the back-off.
        "grpc.min_reconnect_backoff_ms": _CONNECT_MS,
        # A pod that comes back at its address must not be left out for up to two minutes.
        "grpc.initial_reconnect_backoff_ms": _RETRY_MS,
        "grpc.max_reconnect_backoff_ms": _LONGEST_RETRY_MS,
    }
    return (*((key, value) for key, value in defaults.items() if key not in named), *given)
