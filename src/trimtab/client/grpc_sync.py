"""The door for threads: a drop-in for ``grpc.insecure_channel`` and ``grpc.secure_channel``."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from trimtab.attempt import KeepingSerializer, Retry
from trimtab.balancer import Balancer
from trimtab.client import native_arguments
from trimtab.client.channel_spec import BootstrapSource, ChannelSpec, Endpoints, Fallbacks, Options
from trimtab.client.connections import Connections
from trimtab.client.instrumented import front_of, put_over
from trimtab.client.kill_switch import disabled, native
from trimtab.client.request_key import KeyFunction
from trimtab.client.sync_attempts import (
    Declared,
    OnceUnaryUnary,
    RetryingStreamStream,
    RetryingStreamUnary,
    RetryingUnaryStream,
    RetryingUnaryUnary,
)
from trimtab.client.sync_calls import (
    StreamStream,
    StreamUnary,
    UnaryStream,
    UnaryUnary,
    single_threaded,
)
from trimtab.client.sync_cluster import AskState, SyncCluster, ask_by_call, ask_by_subscription
from trimtab.client.sync_exchange import is_wrapped, missing_in_blocking
from trimtab.model import Locality, PolicyConfig

_log = logging.getLogger("trimtab.client")
_log.addHandler(logging.NullHandler())

Serializer = Callable[[Any], bytes] | None
Deserializer = Callable[[bytes], Any] | None
_Kind = TypeVar("_Kind", bound=Declared)


def missing_hook() -> str:
    """The first private name of gRPC that is not as ``ask_by_call`` needs it; "" if all are."""
    native: Any = importlib.import_module("grpc._channel")
    cygrpc: Any = importlib.import_module("grpc._cython.cygrpc")
    channel = getattr(native, "Channel", None)
    if channel is None or "_channel" not in channel.__init__.__code__.co_names:
        return "grpc._channel.Channel._channel"
    if not hasattr(cygrpc.Channel, "check_connectivity_state"):
        return "cygrpc.Channel.check_connectivity_state"
    return ""


def _choose_ask() -> Callable[[grpc.Channel], AskState]:
    missing = missing_hook()
    if missing:
        _log.warning(
            "this grpcio has no %s: sync channels take a thread per endpoint to follow it", missing
        )
        return ask_by_subscription
    return ask_by_call


_ask = _choose_ask()


def _exchanges() -> bool:
    missing = missing_in_blocking()
    if missing:
        _log.warning(
            "this grpcio's %s is another: blocking calls go through its own functions and cost more",
            missing,
        )
    return not missing


_private = _exchanges()


class BalancedChannel(grpc.Channel):
    """A ``grpc.Channel`` that sends each call to the endpoint that the policy picks.

    Args:
        spec: what the caller asked for.
        ask: how native channels are asked for their state.

    Raises:
        ConfigError: a wrong policy, endpoint or bootstrap.
    """

    def __init__(self, spec: ChannelSpec, ask: Callable[[grpc.Channel], AskState] = _ask) -> None:
        self._single_threaded = single_threaded(spec.options)
        # Public in one thing, public in all: the tests run over both.
        self._private = _private and ask is ask_by_call and not is_wrapped()
        self._repeats = spec.repeats
        self._cluster = SyncCluster(spec, ask)
        self._cluster.start()

    @property
    def trimtab(self) -> Balancer:
        """The balancer behind this channel: its nodes, their states, what is in flight."""
        return self._cluster.balancer

    def __repr__(self) -> str:
        state = self._cluster.availability.connectivity.name
        return f"<trimtab.Channel {state}: {self._cluster.balancer!r}>"

    def unary_unary(
        self,
        method: str,
        request_serializer: Serializer = None,
        response_deserializer: Deserializer = None,
        _registered_method: bool | None = False,
    ) -> UnaryUnary:
        """See ``grpc.Channel``."""
        return self._made(
            RetryingUnaryUnary if self._repeats else OnceUnaryUnary,
            "unary_unary",
            method,
            request_serializer,
            response_deserializer,
            _registered_method,
        )

    def unary_stream(
        self,
        method: str,
        request_serializer: Serializer = None,
        response_deserializer: Deserializer = None,
        _registered_method: bool | None = False,
    ) -> UnaryStream:
        """See ``grpc.Channel``."""
        return self._made(
            RetryingUnaryStream,
            "unary_stream",
            method,
            request_serializer,
            response_deserializer,
            _registered_method,
            drop_counts=self._single_threaded,
        )

    def stream_unary(
        self,
        method: str,
        request_serializer: Serializer = None,
        response_deserializer: Deserializer = None,
        _registered_method: bool | None = False,
    ) -> StreamUnary:
        """See ``grpc.Channel``."""
        return self._made(
            RetryingStreamUnary,
            "stream_unary",
            method,
            request_serializer,
            response_deserializer,
            _registered_method,
        )

    def stream_stream(
        self,
        method: str,
        request_serializer: Serializer = None,
        response_deserializer: Deserializer = None,
        _registered_method: bool | None = False,
    ) -> StreamStream:
        """See ``grpc.Channel``."""
        return self._made(
            RetryingStreamStream,
            "stream_stream",
            method,
            request_serializer,
            response_deserializer,
            _registered_method,
        )

    def _made(
        self,
        kind: type[_Kind],
        arity: str,
        method: str,
        request_serializer: Serializer,
        response_deserializer: Deserializer,
        registered: bool | None,
        *,
        drop_counts: bool = False,
    ) -> _Kind:
        if kind.streams:
            request_serializer = KeepingSerializer(request_serializer)

        def make(channel: grpc.Channel) -> Any:
            return getattr(channel, arity)(
                method, request_serializer, response_deserializer, _registered_method=registered
            )

        made = kind(
            self, self._cluster, method, make, drop_counts=drop_counts, private=self._private
        )
        made.attempts = self._cluster.attempts
        return made

    def subscribe(
        self,
        callback: Callable[[grpc.ChannelConnectivity], None],
        try_to_connect: bool | None = False,  # noqa: ARG002 - endpoints are always being connected
    ) -> None:
        """Tell ``callback`` the connectivity of the whole, now and when it changes."""
        self._cluster.callbacks.add(callback)

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        """Tell ``callback`` no more."""
        self._cluster.callbacks.remove(callback)

    def close(self) -> None:
        """Cancel what is in flight and let go of all connections. Idempotent."""
        self._cluster.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        cluster = getattr(self, "_cluster", None)  # None if __init__ raised
        if cluster is not None:
            cluster.abandon()


def _made(spec: ChannelSpec) -> grpc.Channel:
    front = front_of(spec)  # first: bad options are refused now, and not when an endpoint appears
    return put_over(front, BalancedChannel(spec), spec.service)


def insecure_channel(
    target: str,
    options: Options | None = None,
    compression: grpc.Compression | None = None,
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
) -> grpc.Channel:
    """Like ``grpc.insecure_channel``, balanced per request over the target's endpoints.

    Args:
        target: ``xds:///SERVICE.NAMESPACE:PORT``, or that name alone.
        options: of each endpoint's native channel.
        compression: the default of all calls.
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
        return grpc.insecure_channel(target, options, compression)
    return _made(
        ChannelSpec.of(
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
    )


def secure_channel(
    target: str,
    credentials: grpc.ChannelCredentials,
    options: Options | None = None,
    compression: grpc.Compression | None = None,
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
) -> grpc.Channel:
    """Like ``grpc.secure_channel``; see ``insecure_channel`` for the rest.

    The certificate must be good for the service's name in the target, as with native xDS channels.

    Raises:
        ConfigError: a wrong argument.
    """
    native_arguments.credentials(target, credentials)
    if disabled():
        target, options = native(target, options, endpoints, bootstrap)
        return grpc.secure_channel(target, credentials, options, compression)
    return _made(
        ChannelSpec.of(
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
    )
