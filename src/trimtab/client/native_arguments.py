"""gRPC's own arguments of a channel, read before gRPC's core fails on them without naming them.

An option that is wrong in a way that only its meaning shows is still for gRPC to refuse.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Sequence
from typing import Any, cast

import grpc
import grpc.aio

from trimtab.errors import ConfigError
from trimtab.model import whole

_INT = 1 << 31  # what the core's options hold is below


def options(target: str, given: object) -> tuple[tuple[str, Any], ...]:
    """The channel options, which may be None.

    Raises:
        ConfigError: they are no pairs of a name and a value that gRPC's core takes.
    """
    where = f"channel {target!r}: options"
    if given is None:
        return ()
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise ConfigError(
            f"{where}={given!r} is no list; give pairs, such as [('grpc.max_receive_message_length', -1)]"
        )
    found: list[tuple[str, Any]] = []
    for index, pair in enumerate(given):
        if not isinstance(pair, tuple | list) or len(pair) != 2:  # noqa: PLR2004 - a pair
            raise ConfigError(
                f"{where}[{index}]: {pair!r} is no pair; give a name and a value, such as "
                "('grpc.max_receive_message_length', -1)"
            )
        name, value = cast("tuple[str, Any]", pair)
        if not isinstance(name, str | bytes):  # gRPC takes both
            raise ConfigError(f"{where}[{index}]: the name {name!r} is no text")
        if isinstance(value, numbers.Number) and not isinstance(value, int):  # to gRPC a pointer
            value = whole(value)
        if not _fits(value):
            raise ConfigError(
                f"{where}[{index}]: {name!r}: {pair[1]!r} is neither text nor a whole number of 32 bits"
            )
        found.append((name, value))
    return tuple(found)


def _fits(value: object) -> bool:
    if isinstance(value, int):
        return -_INT <= value < _INT  # a range would look for an IntEnum's member by counting
    return isinstance(value, str | bytes) or hasattr(value, "__int__")  # a pointer, to gRPC


def compression(target: str, given: grpc.Compression | None) -> grpc.Compression | None:
    """The compression of all calls, or None.

    Raises:
        ConfigError: it is none of gRPC's.
    """
    if given is not None and given not in tuple(grpc.Compression):
        raise ConfigError(
            f"channel {target!r}: compression={given!r} is none of grpc.Compression's, such as "
            "grpc.Compression.Gzip"
        )
    return given


def credentials(target: str, given: grpc.ChannelCredentials) -> grpc.ChannelCredentials:
    """A secure channel's credentials. None is refused: it would stand for an insecure channel.

    Raises:
        ConfigError: they are none.
    """
    if not isinstance(given, grpc.ChannelCredentials):
        raise ConfigError(
            f"channel {target!r}: credentials={given!r} are no grpc.ChannelCredentials, such as "
            "grpc.ssl_channel_credentials() or trimtab.tls_credentials()"
        )
    return given


def interceptors(
    target: str, given: Sequence[grpc.aio.ClientInterceptor] | None
) -> Sequence[grpc.aio.ClientInterceptor] | None:
    """An asyncio channel's interceptors, or None; gRPC itself looks at each one.

    Raises:
        ConfigError: they are no list.
    """
    if not isinstance(given, Iterable | None):
        raise ConfigError(f"channel {target!r}: interceptors={given!r} is no list")
    return given
