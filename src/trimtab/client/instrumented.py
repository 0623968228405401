"""What instrumentation puts over every gRPC channel, put once over ours.

OpenTelemetry, Sentry, Datadog and programs' own patches replace ``grpc.insecure_channel`` and its three
siblings by functions that put interceptors over the channel they get. So whoever makes a trimtab channel has
one native channel made that is never connected, through these very functions. What they put over it is then
put over ours: above the pick and above further attempts, so once per call.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio

from trimtab.client.channel_spec import ChannelSpec
from trimtab.client.native_channels import (
    aio_is_replaced,
    is_native,
    public_aio_channel,
    public_channel,
)

_log = logging.getLogger("trimtab.client")
_CANT_FOLLOW = (
    "%s() has been replaced, and gives a %s, under which no trimtab channel can be put: calls of the channel "
    "to %s are not instrumented; put the interceptors over it yourself"
)


def front_of(spec: ChannelSpec) -> grpc.Channel:
    """What gRPC makes of these arguments now. It refuses bad options, too.

    Its target is the service's name, for interceptors that tell it.
    """
    return public_channel(spec.service, spec.credentials, spec.options, spec.compression)


def put_over(front: Any, channel: Any, service: str) -> grpc.Channel:
    """The same over ``channel``.

    Args:
        front: from ``front_of``; it is used up.
        channel: a balanced one, with its balancer as ``trimtab``.
        service: for the log.
    """
    over, below = None, front
    while isinstance(inner := getattr(below, "_channel", None), grpc.Channel):
        over, below = below, inner
    if not is_native(below):  # nor is it ours to close: others may have it, too
        _log.warning(_CANT_FOLLOW, "grpc.insecure_channel", type(below).__name__, service)
        return channel  # type: ignore[no-any-return]
    below.close()
    if over is None:
        return channel  # type: ignore[no-any-return]
    over._channel = channel  # noqa: SLF001 - gRPC's and OpenTelemetry's interceptors have it there
    with contextlib.suppress(AttributeError):
        front.trimtab = channel.trimtab
    return front  # type: ignore[no-any-return]


def interceptor_lists(
    spec: ChannelSpec,
    interceptors: Sequence[grpc.aio.ClientInterceptor] | None,
    own: Any,
    names: Sequence[str],
) -> list[list[Any]]:
    """The interceptors of a channel of ``grpc.aio`` by arity: the caller's below those of instrumentation.

    Args:
        spec: of the channel.
        interceptors: the caller's.
        own: a native channel with the caller's only.
        names: of the lists that native channels have.
    """
    front: Any = own
    if aio_is_replaced(spec.credentials):
        front = public_aio_channel(
            spec.service, spec.credentials, spec.options, spec.compression, interceptors
        )
        if not all(isinstance(getattr(front, name, None), list) for name in names):
            kind = type(front).__name__
            _log.warning(_CANT_FOLLOW, "grpc.aio.insecure_channel", kind, spec.service)
            front = own
    return [getattr(front, name) for name in names]
