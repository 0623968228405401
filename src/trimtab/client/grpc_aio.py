"""The asyncio door: a drop-in for ``grpc.aio.insecure_channel`` and ``secure_channel``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import grpc
import grpc.aio

from trimtab.attempt import Retry
from trimtab.client import native_arguments
from trimtab.client.aio_picking import PickingChannel, missing_hook
from trimtab.client.aio_public import PublicChannel
from trimtab.client.channel_spec import BootstrapSource, ChannelSpec, Endpoints, Fallbacks, Options
from trimtab.client.connections import Connections
from trimtab.client.kill_switch import disabled, native
from trimtab.client.request_key import KeyFunction
from trimtab.model import Locality, PolicyConfig

_log = logging.getLogger("trimtab.client")
_log.addHandler(logging.NullHandler())

Make = Callable[
    [ChannelSpec, Sequence[grpc.aio.ClientInterceptor] | None],
    grpc.aio.Channel,
]


def _choose() -> Make:
    missing = missing_hook()
    if missing:
        _log.warning(
            "this grpcio has no %s: asyncio channels use the public interface, which is slower",
            missing,
        )
        return PublicChannel
    return PickingChannel


_make = _choose()


def insecure_channel(
    target: str,
    options: Options | None = None,
    compression: grpc.Compression | None = None,
    interceptors: Sequence[grpc.aio.ClientInterceptor] | None = None,
    *,
    policy: str | PolicyConfig | None = None,
    endpoints: Endpoints | None = None,
    bootstrap: BootstrapSource | None = None,
    locality: str | Locality | None = None,
    labels: Mapping[str, str] | None = None,
    fallback: Fallbacks | None = None,
    retry: Retry | None = None,
    health: str | None = None,
    hash_key: KeyFunction | None = None,
    connections: Connections | None = None,
) -> grpc.aio.Channel:
    """Like ``grpc.aio.insecure_channel``, balanced per request over the target's endpoints.

    Args:
        target: ``xds:///SERVICE.NAMESPACE:PORT``, or that name alone.
        options: of each endpoint's native channel.
        compression: the default of all calls.
        interceptors: run above the pick, so a retry may land on another endpoint.
        policy: a policy's name or configuration; None follows the control plane, else ``token``.
        endpoints: a fixed list of ``"host:port"`` or ``Endpoint``; then no control plane is asked.
        bootstrap: a file's path, its content as a mapping or a ``Bootstrap``; None takes it from
            the environment (``GRPC_XDS_BOOTSTRAP``, ``GRPC_XDS_BOOTSTRAP_CONFIG``,
            ``TRIMTAB_CONTROL_PLANE``).
        locality: the zone that this process runs in, or a ``Locality``; None takes it from the
            bootstrap's node, else from ``TRIMTAB_ZONE``. Endpoints in it are preferred.
        labels: only endpoints that have all of these get requests.
        fallback: whom to call while the control plane says nothing, or has no endpoint: a list of
            ``"host:port"``, ``Endpoint`` and at most one ``LastGood``. ``TRIMTAB_LAST_GOOD`` names a
            directory for every channel.
        retry: declares calls safe to run more than once, and says when to. By method in the service
            config (``grpc.service_config``), whose word goes first.
        health: watch each endpoint's health by gRPC's own health service: the name that it knows, "" for
            the server as a whole. One that is not SERVING gets no new requests.
        hash_key: a function of the method, the metadata and the request (None where it is a stream), which
            gives the key of a request or None; asked where the policy wants keys (``ring_hash``).
        connections: how many to each endpoint, and for how long.

    Raises:
        ConfigError: a wrong argument.
    """
    if disabled():
        target, options = native(target, options, endpoints, bootstrap)
        return grpc.aio.insecure_channel(target, options, compression, interceptors=interceptors)
    spec = ChannelSpec.of(
        target,
        None,
        options,
        compression,
        policy=policy,
        endpoints=endpoints,
        bootstrap=bootstrap,
        locality=locality,
        labels=labels,
        fallback=fallback,
        retry=retry,
        health=health,
        hash_key=hash_key,
        connections=connections,
    )
    return _make(spec, native_arguments.interceptors(target, interceptors))


def secure_channel(
    target: str,
    credentials: grpc.ChannelCredentials,
    options: Options | None = None,
    compression: grpc.Compression | None = None,
    interceptors: Sequence[grpc.aio.ClientInterceptor] | None = None,
    *,
    policy: str | PolicyConfig | None = None,
    endpoints: Endpoints | None = None,
    bootstrap: BootstrapSource | None = None,
    locality: str | Locality | None = None,
    labels: Mapping[str, str] | None = None,
    fallback: Fallbacks | None = None,
    retry: Retry | None = None,
    health: str | None = None,
    hash_key: KeyFunction | None = None,
    connections: Connections | None = None,
) -> grpc.aio.Channel:
    """Like ``grpc.aio.secure_channel``; see ``insecure_channel`` for the rest.

    The certificate must be good for the service's name in the target, as with native xDS channels.

    Raises:
        ConfigError: a wrong argument.
    """
    native_arguments.credentials(target, credentials)
    if disabled():
        target, options = native(target, options, endpoints, bootstrap)
        return grpc.aio.secure_channel(
            target, credentials, options, compression, interceptors=interceptors
        )
    spec = ChannelSpec.of(
        target,
        credentials,
        options,
        compression,
        policy=policy,
        endpoints=endpoints,
        bootstrap=bootstrap,
        locality=locality,
        labels=labels,
        fallback=fallback,
        retry=retry,
        health=health,
        hash_key=hash_key,
        connections=connections,
    )
    return _make(spec, native_arguments.interceptors(target, interceptors))
