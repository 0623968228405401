"""What the caller asked of a channel, and how each endpoint's native channel follows from it."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import grpc

from trimtab.client.bootstrap import ZONE_VARIABLE, Bootstrap, load
from trimtab.client.watching import Watch, Watcher, service_name, watch
from trimtab.errors import ConfigError
from trimtab.model import Endpoint, Locality, PolicyConfig

Options = Sequence[tuple[str, Any]]
Endpoints = Iterable[str | Endpoint]
BootstrapSource = str | Mapping[str, Any] | Bootstrap

_NEVER_MS = 2**31 - 1
_PONG_MS = 5_000


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
    ) -> Self:
        """From a factory's arguments.

        Raises:
            ConfigError: the target names no service, the policy or locality is of another type, or
                the bootstrap is bad.
        """
        service = service_name(target)
        if endpoints is None:
            bootstrap = load(bootstrap)
        if not isinstance(policy, str | PolicyConfig | None):
            raise ConfigError(
                f"channel {target!r}: policy={policy!r} is neither a policy's name, such as 'p2c', "
                "nor a PolicyConfig"
            )
        return cls(
            target=target,
            service=service,
            credentials=credentials,
            options=options_for(service, options),
            compression=compression,
            policy=PolicyConfig(policy) if isinstance(policy, str) else policy,
            endpoints=endpoints,
            bootstrap=bootstrap,
            zone=_zone(target, locality, bootstrap),
            labels=_labels(target, labels),
        )

    def watch(self, watcher: Watcher) -> Watch:
        """Begin to tell ``watcher`` of the endpoints; see ``watching.watch``."""
        return watch(self.target, watcher, endpoints=self.endpoints, bootstrap=self.bootstrap)


def _labels(target: str, labels: Mapping[str, str] | None) -> Mapping[str, str]:
    if labels is None:
        return {}
    if not isinstance(labels, Mapping) or not all(
        isinstance(text, str) for pair in labels.items() for text in pair
    ):
        raise ConfigError(
            f"channel {target!r}: labels={labels!r} is no mapping of texts to texts, such as "
            "{'shard': '7'}"
        )
    return dict(labels)


def _zone(
    target: str,
    locality: str | Locality | None,
    bootstrap: BootstrapSource | None,
) -> str:
    """The caller's own word, else the bootstrap's, else the environment's."""
    if isinstance(locality, Locality):
        return locality.zone
    if isinstance(locality, str):
        return locality
    if locality is not None:
        raise ConfigError(
            f"channel {target!r}: locality={locality!r} is neither a zone's name nor a Locality"
        )
    zone = bootstrap.node.locality.zone if isinstance(bootstrap, Bootstrap) else ""
    return zone or os.environ.get(ZONE_VARIABLE, "")


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
        # The process-wide pool would share connections between channels: fewer connections than
        # endpoints' states suggest, and one channel's closing felt by another.
        "grpc.use_local_subchannel_pool": 1,
        # After 30 quiet minutes native channels let go of their connection, so that the next
        # request would wait for a new one.
        "grpc.client_idle_timeout_ms": _NEVER_MS,
        # Without it a frozen server is noticed after 60 s, whatever keepalive the caller asks for.
        "grpc.http2.ping_timeout_ms": named.get("grpc.keepalive_timeout_ms", _PONG_MS),
    }
    return (*((key, value) for key, value in defaults.items() if key not in named), *given)
