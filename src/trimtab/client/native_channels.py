"""gRPC's own channels, made by its constructors.

Instrumentation replaces ``grpc.insecure_channel`` and the like by functions that put interceptors over the
channel. That belongs over the channel that a user makes (``client.instrumented``), and not over each
endpoint's or the control plane's: there it would tell of attempts and of trimtab's own streams.

The names used are private to gRPC. Where they are not as expected, the public functions stand in.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import grpc
import grpc.aio

from trimtab.client.channel_spec import Options

_Channel: Any = getattr(importlib.import_module("grpc._channel"), "Channel", None)
_aio: Any = importlib.import_module("grpc.aio._channel")
_MADE_OF = ["target", "options", "credentials", "compression"]


def _as_expected(made: Any, *more: str) -> bool:
    return made is not None and list(inspect.signature(made).parameters) == [*_MADE_OF, *more]


_KNOWN = _as_expected(_Channel)
_KNOWN_AIO = _as_expected(getattr(_aio, "Channel", None), "interceptors")


def own(credentials: grpc.ChannelCredentials | None) -> Any:
    """Credentials as gRPC's constructors take them."""
    return None if credentials is None else credentials._credentials  # type: ignore[attr-defined]  # noqa: SLF001 - as gRPC itself does


def is_native(channel: object) -> bool:
    """Whether it is gRPC's own, with nothing over it."""
    return type(channel) is _Channel


def blocking_channel(
    target: str,
    credentials: grpc.ChannelCredentials | None,
    options: Options,
    compression: grpc.Compression | None = None,
) -> grpc.Channel:
    """What ``grpc.insecure_channel`` and ``grpc.secure_channel`` make where nobody has replaced them."""
    if not _KNOWN:
        return public_channel(target, credentials, options, compression)
    made: grpc.Channel = _Channel(target, options, own(credentials), compression)
    return made


def asyncio_channel(
    target: str,
    credentials: grpc.ChannelCredentials | None,
    options: Options,
    compression: grpc.Compression | None = None,
) -> grpc.aio.Channel:
    """The same of ``grpc.aio``."""
    if not _KNOWN_AIO:
        return public_aio_channel(target, credentials, options, compression)
    made: grpc.aio.Channel = _aio.Channel(target, options, own(credentials), compression, None)
    return made


def public_channel(
    target: str,
    credentials: grpc.ChannelCredentials | None,
    options: Options,
    compression: grpc.Compression | None,
) -> grpc.Channel:
    """What anybody gets who asks gRPC for a channel now."""
    if credentials is None:
        return grpc.insecure_channel(target, options, compression)
    return grpc.secure_channel(target, credentials, options, compression)


def public_aio_channel(
    target: str,
    credentials: grpc.ChannelCredentials | None,
    options: Options,
    compression: grpc.Compression | None,
    interceptors: Any = None,
) -> grpc.aio.Channel:
    """The same of ``grpc.aio``. By name: OpenTelemetry's functions take interceptors in no other way."""
    if credentials is None:
        return grpc.aio.insecure_channel(target, options, compression, interceptors=interceptors)
    return grpc.aio.secure_channel(
        target, credentials, options, compression, interceptors=interceptors
    )


def aio_is_replaced(credentials: grpc.ChannelCredentials | None) -> bool:
    """Whether ``public_aio_channel`` would call a function that is not gRPC's own."""
    name = "insecure_channel" if credentials is None else "secure_channel"
    return getattr(grpc.aio, name) is not getattr(_aio, name, None)
